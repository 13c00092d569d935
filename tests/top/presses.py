"""Key presses on a TopState of the recorded fleet."""

from __future__ import annotations

from cortex.top.commands import on_key
from cortex.top.rows import visible_rows
from cortex.top.state import TopState, on_snapshot
from tests.top.fleets import fleet


def shown(state: TopState) -> list[str]:
    return [row.key for row in visible_rows(state)]


def press(state: TopState, *keys: str) -> TopState:
    for key in keys:
        state, _ = on_key(state, key)
    return state


def start() -> TopState:
    return on_snapshot(TopState(url="http://gw"), fleet())
