"""Guesses from the text itself, and whether they are worth a larger batch."""

from __future__ import annotations

import numpy as np
import pytest

from cortex.engine.kv.tokens import TokenBuffer
from cortex.engine.sampling.prompt_lookup import GuessHistory, PromptLookup, RowPrice, find_continuation

REPEATING = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2, 3]


def _array(*tokens: int) -> np.ndarray:
    return np.array(tokens, dtype=np.int32)


def _guesses(lookup: PromptLookup, acceptance: float | None = None, running: int = 1) -> list[int]:
    return lookup.guess(TokenBuffer(REPEATING), GuessHistory(acceptance), room=100, running=running)


def _measured(*steps: tuple[int, int, float]) -> PromptLookup:
    """After steps of so many rows, so many of them guessed, that took so many seconds."""
    lookup = PromptLookup(enabled=True)
    for rows, guesses, seconds in steps:
        lookup.record(rows, guesses, seconds)
    return lookup


def test_the_latest_earlier_occurrence_is_continued() -> None:
    assert find_continuation(_array(1, 2, 3, 4, 9, 1, 2, 3, 5, 6, 1, 2, 3), 2) == [5, 6]


def test_nothing_is_guessed_where_nothing_repeats() -> None:
    assert find_continuation(_array(1, 2, 3, 4, 5), 4) == []
    assert find_continuation(_array(1, 2), 4) == []


def test_the_last_tokens_are_not_their_own_continuation() -> None:
    assert find_continuation(_array(7, 7, 7, 7), 3) == [7]


def test_before_the_price_is_known_guesses_are_tried_if_they_may_be_right() -> None:
    lookup = _measured((1, 0, 0.01))
    assert _guesses(lookup) == [4, 5, 6, 7, 8, 9, 10, 1]
    assert _guesses(lookup, acceptance=0.1) == []


def test_where_rows_are_free_even_doubtful_guesses_are_made() -> None:
    assert len(_guesses(_measured((1, 0, 0.01), (9, 8, 0.011)), acceptance=0.1)) == 8


def test_where_each_row_costs_as_much_as_the_first_not_even_sure_guesses_are_made() -> None:
    assert _guesses(_measured((8, 0, 0.050), (16, 8, 0.100)), acceptance=1.0, running=8) == []


def test_one_trial_tells_what_rows_cost_beside_any_number_of_streams() -> None:
    """Each size of batch had to be tried by itself once: with eight streams on a CPU this took a tenth of the speed."""
    lookup = _measured((8, 0, 0.050), (24, 16, 0.150), (4, 0, 0.030))
    assert _guesses(lookup, running=8) == _guesses(lookup, running=4) == []


def test_withheld_guesses_are_tried_again_now_and_then() -> None:
    lookup = _measured((1, 0, 0.01), (9, 8, 0.09))
    tried = [bool(_guesses(lookup, acceptance=0.9)) for _ in range(400)]
    assert tried.count(True) == 2


@pytest.mark.parametrize("running", [9, 16])
def test_beside_many_streams_nothing_is_guessed(running: int) -> None:
    assert _guesses(PromptLookup(enabled=True), running=running) == []


def test_a_new_text_is_judged_by_what_texts_showed_before() -> None:
    lookup = _measured((1, 0, 0.01))
    for _ in range(60):
        lookup.learn(GuessHistory(), 8, 0, unsure=False)
    assert _guesses(lookup) == []


def test_after_an_uncertain_word_the_next_one_is_computed_alone() -> None:
    lookup, history = _measured((1, 0, 0.01), (9, 8, 0.01)), GuessHistory()
    lookup.learn(history, 8, 3, unsure=True)
    assert lookup.guess(TokenBuffer(REPEATING), history, room=100, running=1) == []
    assert lookup.guess(TokenBuffer(REPEATING), history, room=100, running=1)


# ---- the price of a row


def test_guesses_of_which_all_are_right_double_a_stream_where_one_more_row_is_free() -> None:
    price = RowPrice()
    price.record(1, 0, 0.010)
    price.record(2, 1, 0.010)
    assert price.speedup(1, 1, 1.0) == pytest.approx(2.0)


def test_guesses_slow_streams_down_by_what_their_rows_take() -> None:
    price = RowPrice()
    price.record(8, 0, 0.050)
    price.record(16, 8, 0.090)
    assert price.speedup(8, 8, 0.5) == pytest.approx((12 / 8) * 0.050 / 0.090)


def test_there_is_no_price_before_a_step_with_guesses_and_one_without() -> None:
    price = RowPrice()
    price.record(16, 8, 0.090)
    assert price.speedup(8, 8, 0.5) is None
    price.record(8, 0, 0.050)
    assert price.speedup(8, 8, 0.5) is None


def test_one_step_that_was_delayed_changes_nothing() -> None:
    price = RowPrice()
    price.record(1, 0, 0.010)
    for seconds in [0.011, 0.011, 0.900]:
        price.record(9, 8, seconds)
    assert price.speedup(1, 8, 1.0) == pytest.approx(9 * 0.010 / 0.011)


def test_the_price_is_that_of_the_last_steps() -> None:
    price = RowPrice()
    price.record(1, 0, 0.010)
    for seconds in [0.011] * 5 + [0.090] * 5:
        price.record(9, 8, seconds)
    assert price.speedup(1, 8, 1.0) == pytest.approx(9 * 0.010 / 0.090)
