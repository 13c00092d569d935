"""A TopState after new documents and failed polls."""

from __future__ import annotations

import msgspec

from cortex.top.state import on_snapshot, on_unreachable, total_tokens_per_second
from tests.top.fleets import fleet
from tests.top.presses import press, shown, start


def test_paused_keeps_the_document_and_goes_on_with_the_sparkline() -> None:
    paused = press(start(), " ")
    later = on_snapshot(paused, msgspec.structs.replace(fleet(), neurons=[]))
    assert later.fleet is paused.fleet
    assert len(later.history) == 2


def test_unreachable_keeps_the_last_document() -> None:
    state = on_unreachable(start(), "connection refused")
    assert state.error == "connection refused"
    assert shown(state)
    assert on_snapshot(state, fleet()).error == ""


def test_rate_counts_running_models_only() -> None:
    assert total_tokens_per_second(fleet()) == 92.5
