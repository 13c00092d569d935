"""What each key does."""

from __future__ import annotations

from dataclasses import replace

from cortex.top.commands import on_key
from cortex.top.state import TopState
from tests.top.presses import press, start


def select(state: TopState, key: str) -> TopState:
    return replace(state, selected=key)


def test_backspace_edits_and_escape_drops_the_filter() -> None:
    assert press(start(), "/", "a", "b", "backspace").filter == "a"
    assert press(start(), "/", "a", "escape").filter == ""


def test_letters_typed_into_the_filter_are_not_commands() -> None:
    state = press(start(), "/", "q", "u")
    assert not state.quit
    assert state.filter == "qu"


def test_selection_moves_within_the_rows() -> None:
    state = press(start(), "down")
    assert state.selected == "n:beast"
    assert press(state, "up").selected == "n:beast"
    assert press(state, *["down"] * 50).selected == "r:chatcmpl-9"


def test_actions_are_asked_once_and_done_on_yes_only() -> None:
    state = select(start(), "m:beast:Qwen/Qwen3.6-27B-GGUF")
    asked, nothing = on_key(state, "u")
    assert nothing is None
    assert asked.pending is not None
    assert asked.pending.kind == "unload"
    _, action = on_key(asked, "y")
    assert action == asked.pending
    left, none = on_key(asked, "n")
    assert none is None
    assert left.pending is None


def test_pin_becomes_unpin_where_the_gateway_reports_a_pin() -> None:
    state = press(select(start(), "m:beast:Qwen/Qwen3.6-27B-GGUF"), "p")
    assert state.pending is not None
    assert state.pending.kind == "unpin"
    state = press(select(start(), "m:beast:gemma-3-12b"), "p")
    assert state.pending is not None
    assert state.pending.kind == "pin"


def test_drain_needs_a_neuron_and_cancel_a_request() -> None:
    state = press(select(start(), "n:beast"), "d")
    assert state.pending is not None
    assert state.pending.kind == "drain"
    state = press(select(start(), "r:chatcmpl-1"), "c")
    assert state.pending is not None
    assert state.pending.target == "chatcmpl-1"
    assert "select a request" in press(select(start(), "n:beast"), "c").message
