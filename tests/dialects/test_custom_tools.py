"""Free-form input survives the wrapping that models need, however it is cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.dialects.custom_tools import CustomInput, unwrap_cut_input, unwrap_input, wrap_input

RAW = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def pieces(arguments: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(arguments) + 1) for cut in cuts), len(arguments)]
    fed = CustomInput()
    said = [fed.feed(arguments[start:end]) for start, end in pairwise(edges)]
    return [*said, fed.finish(complete=True)]


@given(RAW)
def test_wrapping_is_undone_by_unwrapping(raw: str) -> None:
    assert unwrap_input(wrap_input(raw)) == raw


@given(RAW, st.lists(st.integers(0, 500), max_size=8), st.booleans(), st.sampled_from(["", " ", "\n  "]))
def test_pieces_concatenate_to_the_raw_input(raw: str, cuts: list[int], ascii_only: bool, space: str) -> None:
    arguments = f'{space}{{{space}"input"{space}:{space}{json.dumps(raw, ensure_ascii=ascii_only)}{space}}}'
    assert "".join(pieces(arguments, cuts)) == raw


@given(RAW, st.integers(0, 500))
def test_a_cut_input_ends_where_the_model_was_cut(raw: str, cut: int) -> None:
    arguments = wrap_input(raw)
    cut = cut % len(arguments)
    fed = CustomInput()
    told = fed.feed(arguments[:cut]) + fed.finish(complete=False)
    assert raw.startswith(told)
    assert told == fed.text == unwrap_cut_input(arguments[:cut])


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"'), min_size=1, max_size=60))
def test_the_input_streams_before_its_end(raw: str) -> None:
    """Everything but the closing of the JSON has been told when the last character is in."""
    fed = CustomInput()
    arguments = wrap_input(raw)
    assert "".join(fed.feed(character) for character in arguments[:-2]) == raw


@pytest.mark.parametrize("arguments", ['{"patch": "x"}', '{"input": 7}', "[]", "null", '"x"', "*** Begin Patch"])
def test_arguments_of_another_shape_are_the_input_themselves(arguments: str) -> None:
    assert "".join(pieces(arguments, [])) == arguments


def test_other_keys_beside_the_input_are_no_part_of_it() -> None:
    assert "".join(pieces('{"why": "fix", "input": "x"}', [3, 9, 20])) == "x"
