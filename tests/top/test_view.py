"""Screens compared with golden files: CORTEX_GOLDEN=write records them again; read the difference before a commit."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.top.rows import visible_rows
from cortex.top.state import Action, TopState, on_snapshot, on_unreachable
from cortex.top.view import draw, height_of_all
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


def test_the_help_fits_80_characters() -> None:
    """Lines longer than the terminal is wide were cut."""
    helped = text_of(SCREENS["help"], 80, 24)
    assert all(line in helped for line in text_of(SCREENS["help"], 200, 24).splitlines()[-5:-1])


def test_at_its_full_height_a_frame_has_every_row_and_no_empty_line() -> None:
    lines = [line.plain for line in draw(state(), 80, height_of_all(state()))]
    assert len(lines) == 3 + len(visible_rows(state()))
    assert all(line.strip() for line in lines)


def test_the_title_says_that_the_gateway_drains() -> None:
    fleet_now = msgspec.structs.replace(fleet(), state="draining")
    assert "draining" in draw(state(fleet=fleet_now), 80, 24)[0].plain


def test_the_selected_row_is_always_on_screen() -> None:
    lines = draw(state(selected="r:chatcmpl-9"), 80, 8)
    assert any("chatcmpl-9" in line.plain for line in lines)
