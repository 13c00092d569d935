"""Numbers as short text."""

from __future__ import annotations

from cortex.operator.formatting import format_age, format_bytes, sparkline


def test_sparkline_shows_the_newest_values_with_the_highest_full() -> None:
    assert sparkline([1, 2, 8, 4], 3) == "▃█▅"
    assert sparkline([0, 0], 5) == "▁▁"
    assert sparkline([1.0], 0) == ""


def test_sizes_and_ages_are_short() -> None:
    assert [format_bytes(n) for n in (512, 2048, 5 * 1024**2, 18.25 * 1024**3)] == ["512B", "2K", "5.0M", "18.2G"]
    assert [format_age(n) for n in (5, 240, 7200, 200_000)] == ["5s", "4m", "2h", "2d"]
