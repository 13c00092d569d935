"""The growable token array."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cortex.engine.kv.tokens import TokenBuffer

TOKENS = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=600)


@given(TOKENS, st.lists(TOKENS, max_size=3))
def test_appended_and_extended_it_holds_what_a_list_would(first: list[int], more: list[list[int]]) -> None:
    buffer, expected = TokenBuffer(first), list(first)
    for tokens in more:
        buffer.extend(tokens)
        buffer.append(7)
        expected += [*tokens, 7]
    assert buffer.view().tolist() == expected
    assert [buffer[index] for index in range(len(buffer))] == expected


def test_a_view_is_not_copied_and_a_given_array_is() -> None:
    given_array = np.array([1, 2, 3], np.int32)
    buffer = TokenBuffer(given_array)
    given_array[0] = 9
    assert buffer[0] == 1
    buffer.view()[1] = 8
    assert buffer[1] == 8


def test_after_a_cut_the_next_tokens_replace_those_behind_it() -> None:
    buffer = TokenBuffer([1, 2, 3, 4])
    buffer.truncate(2)
    buffer.append(9)
    assert buffer.view().tolist() == [1, 2, 9]


@given(st.lists(st.integers(0, 2), max_size=8), st.lists(st.integers(0, 2), max_size=8), st.integers(0, 8))
def test_a_common_prefix_is_as_long_as_both_agree_and_no_longer_than_asked(
    one: list[int], other: list[int], length: int
) -> None:
    agreed = 0
    while agreed < min(len(one), len(other), length) and one[agreed] == other[agreed]:
        agreed += 1
    assert TokenBuffer(one).common_prefix(np.array(other, np.int32), length) == agreed
