"""The price of a row, and what it makes of guesses."""

from __future__ import annotations

import pytest

from cortex.engine.sampling.row_price import RowPrice


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


def test_nothing_is_said_before_there_was_a_guess_or_a_step_without_one() -> None:
    price = RowPrice()
    price.record(16, 8, 0.090)
    assert price.speedup(8, 8, 0.5) is None
    price.record(8, 0, 0.050)
    assert price.speedup(8, 8, 0.5) is None


def test_one_step_that_was_held_up_changes_nothing() -> None:
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
