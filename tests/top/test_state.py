from __future__ import annotations

from cortex.top.state import on_snapshot, on_unreachable, total_tokens_per_second
from tests.top.fleets import fleet
from tests.top.presses import press, shown, start


def test_paused_keeps_the_picture_but_not_the_sparkline() -> None:
    paused = press(start(), " ")
    later = on_snapshot(paused, replace_state(fleet()))
    assert later.fleet is paused.fleet
    assert len(later.history) == 2


def replace_state(document: object) -> object:
    import msgspec

    return msgspec.structs.replace(document, neurons=[])


def test_unreachable_keeps_the_last_picture() -> None:
    state = on_unreachable(start(), "connection refused")
    assert state.error == "connection refused"
    assert shown(state)
    assert on_snapshot(state, fleet()).error == ""


def test_rate_counts_running_models_only() -> None:
    assert total_tokens_per_second(fleet()) == 92.5
