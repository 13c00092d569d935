"""The legal moves of a worker process, as a table.

stopped ──spawned──▶ starting ──announced──▶ ready ──drain──▶ draining ──exited──▶ stopped
   ▲                    │ exited               │ exited
   └─────retired────── dead ◀──────────────────┘          (dead ──spawned──▶ starting, after the back-off)
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from cortex.wire.status import WorkerState

__all__ = ["TRANSITIONS", "IllegalMove", "LogTail", "WorkerEvent", "backoff_s", "next_state"]


class WorkerEvent(Enum):
    SPAWNED = auto()
    ANNOUNCED = auto()
    DRAIN = auto()
    EXITED = auto()
    RETIRED = auto()


class IllegalMove(AssertionError):
    """An event that can't happen in this state: a bug in the supervisor."""


TRANSITIONS: dict[WorkerState, dict[WorkerEvent, WorkerState]] = {
    "stopped": {WorkerEvent.SPAWNED: "starting"},
    "starting": {WorkerEvent.ANNOUNCED: "ready", WorkerEvent.DRAIN: "draining", WorkerEvent.EXITED: "dead"},
    "ready": {WorkerEvent.DRAIN: "draining", WorkerEvent.EXITED: "dead"},
    "draining": {WorkerEvent.EXITED: "stopped"},
    "dead": {WorkerEvent.SPAWNED: "starting", WorkerEvent.RETIRED: "stopped"},
}


def next_state(state: WorkerState, event: WorkerEvent) -> WorkerState:
    """Raises IllegalMove naming both."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalMove(f"{event.name} in state {state}") from None


def backoff_s(deaths: int) -> float:
    """Pause before start number `deaths` + 1: none at first, then 0.25 s doubling up to 30 s."""
    return 0.0 if deaths == 0 else min(0.25 * 2 ** (deaths - 1), 30.0)


class LogTail:
    """A process's output as lines, of which the last `keep` are remembered. Bytes in, lines out."""

    def __init__(self, keep: int = 40) -> None:
        self._lines: deque[str] = deque(maxlen=keep)
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > 65536:  # a progress bar without newlines must not grow for ever
            whole, self._rest = [*whole, self._rest], b""
        lines = [line.decode(errors="replace").rstrip() for line in whole]
        self._lines.extend(line for line in lines if line)
        return lines

    @property
    def lines(self) -> list[str]:
        rest = self._rest.decode(errors="replace").rstrip()
        return [*self._lines, *([rest] if rest else [])]
