"""A TopState of the recorded fleet, and keys pressed on it."""

from __future__ import annotations

from cortex.top.commands import on_key
from cortex.top.model import TopState, on_snapshot
from cortex.top.rows import rows_of
from tests.top.fleets import fleet


def shown(state: TopState) -> list[str]:
    return [row.key for row in rows_of(state)]


def press(state: TopState, *keys: str) -> TopState:
    for key in keys:
        state, _ = on_key(state, key)
    return state


def start() -> TopState:
    return on_snapshot(TopState(url="http://gw"), fleet())
