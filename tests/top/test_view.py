"""Golden screens: CORTEX_GOLDEN=write records them anew; read the difference before committing it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.top.model import Action, TopState, on_snapshot, on_unreachable
from cortex.top.view import draw, format_age, format_bytes, sparkline
from tests.top.fleets import fleet

GOLDEN = Path(__file__).parent / "golden"


def state(**fields: object) -> TopState:
    base = TopState(url="http://127.0.0.1:31313", history=(10.0, 50.0, 80.0))
    return replace(on_snapshot(base, fleet()), **fields)  # type: ignore[arg-type]


SCREENS = {
    "plain": state(),
    "selected": state(selected="m:beast:gemma-3-12b", show_unloaded=True),
    "asking": state(pending=Action("unload", "gemma-3-12b", "unload gemma-3-12b?")),
    "help": state(show_help=True),
    "away": on_unreachable(state(), "http://127.0.0.1:31313 can't be reached: connection refused"),
    "filter": state(filter="gem", typing_filter=True),
    "empty": TopState(url="http://127.0.0.1:31313"),
}


def text_of(screen: TopState, width: int, height: int) -> str:
    return "\n".join(line.plain.rstrip() for line in draw(screen, width, height)) + "\n"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 48)])
@pytest.mark.parametrize("name", SCREENS)
def test_screen_equals_its_golden_file(name: str, width: int, height: int) -> None:
    text = text_of(SCREENS[name], width, height)
    golden = GOLDEN / f"{name}-{width}x{height}.txt"
    if os.environ.get("CORTEX_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


@given(width=st.integers(20, 250), height=st.integers(3, 80), name=st.sampled_from(sorted(SCREENS)))
def test_a_frame_always_fits_its_terminal(width: int, height: int, name: str) -> None:
    lines = draw(SCREENS[name], width, height)
    assert len(lines) == height
    assert all(line.cell_len <= width for line in lines)


def test_the_selected_row_is_always_on_screen() -> None:
    lines = draw(state(selected="r:chatcmpl-9"), 80, 8)
    assert any("chatcmpl-9" in line.plain for line in lines)


def test_sparkline_shows_the_newest_values_with_the_highest_full() -> None:
    assert sparkline([1, 2, 8, 4], 3) == "▃█▅"
    assert sparkline([0, 0], 5) == "▁▁"
    assert sparkline([1.0], 0) == ""


def test_sizes_and_ages_are_short() -> None:
    assert [format_bytes(n) for n in (512, 2048, 5 * 1024**2, 18.25 * 1024**3)] == ["512B", "2K", "5.0M", "18.2G"]
    assert [format_age(n) for n in (5, 240, 7200, 200_000)] == ["5s", "4m", "2h", "2d"]
