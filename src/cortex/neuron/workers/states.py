"""The states of a worker process, as a table.

stopped ──spawned──▶ starting ──ready──▶ ready ──drain──▶ draining ──exited──▶ stopped
                        │ exited           │ exited
                       dead ◀──────────────┘          (dead ──spawned──▶ starting, after the back-off)

`drain` from starting leads to draining as well. `dead` is an exit that was not requested.
"""

from __future__ import annotations

from enum import Enum, auto

from cortex.wire.status import WorkerState

__all__ = ["IllegalTransition", "WorkerEvent", "backoff_s", "next_state"]


class WorkerEvent(Enum):
    SPAWNED = auto()
    READY = auto()
    DRAIN = auto()
    EXITED = auto()


class IllegalTransition(AssertionError):
    """An event that can't happen in this state: a bug in `process`."""


_TRANSITIONS: dict[WorkerState, dict[WorkerEvent, WorkerState]] = {
    "stopped": {WorkerEvent.SPAWNED: "starting"},
    "starting": {WorkerEvent.READY: "ready", WorkerEvent.DRAIN: "draining", WorkerEvent.EXITED: "dead"},
    "ready": {WorkerEvent.DRAIN: "draining", WorkerEvent.EXITED: "dead"},
    "draining": {WorkerEvent.EXITED: "stopped"},
    "dead": {WorkerEvent.SPAWNED: "starting"},
}


def next_state(state: WorkerState, event: WorkerEvent) -> WorkerState:
    """Raises IllegalTransition naming both."""
    try:
        return _TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"{event.name} in state {state}") from None


def backoff_s(deaths: int) -> float:
    """Seconds between death number `deaths` in a row and the next start: 0.25 doubling up to 30; none before the
    first."""
    return 0.0 if deaths == 0 else min(0.25 * 2 ** (deaths - 1), 30.0)
