"""What `cortex top` knows, as values: a frozen state and what a fresh document makes of it. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from cortex.wire.fleet import FleetStatus

__all__ = [
    "SORTS",
    "Action",
    "TopState",
    "on_done",
    "on_snapshot",
    "on_unreachable",
    "total_tokens_per_second",
]

HISTORY = 60
SORTS = ("name", "state", "tok/s", "queue", "memory")


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do to the fleet, asked once before it is done: `question` is shown, y does it."""

    kind: Literal["unload", "load", "pin", "unpin", "drain", "resume", "cancel"]
    target: str
    question: str


@dataclass(frozen=True, slots=True)
class TopState:
    """Everything the view draws. `selected` is a row's key, so that it stays on its row when rows move."""

    url: str
    fleet: FleetStatus | None = None
    error: str = ""
    history: tuple[float, ...] = ()
    selected: str = ""
    sort: str = "name"
    filter: str = ""
    typing_filter: bool = False
    paused: bool = False
    show_help: bool = False
    show_unloaded: bool = False
    pending: Action | None = None
    message: str = ""
    quit: bool = field(default=False)


def on_snapshot(state: TopState, fleet: FleetStatus) -> TopState:
    """A fresh document: kept unless paused; the sparkline goes on either way."""
    history = (*state.history, total_tokens_per_second(fleet))[-HISTORY:]
    if state.paused and state.fleet is not None:
        return replace(state, history=history, error="")
    return replace(state, fleet=fleet, history=history, error="")


def on_unreachable(state: TopState, reason: str) -> TopState:
    """The gateway is away (restarting, perhaps): the last picture stays, marked."""
    return replace(state, error=reason)


def on_done(state: TopState, outcome: str) -> TopState:
    """An action ended; `outcome` is what to say of it."""
    return replace(state, message=outcome)


def total_tokens_per_second(fleet: FleetStatus) -> float:
    return sum(
        model.tokens_per_second
        for neuron in fleet.neurons
        if neuron.status
        for model in neuron.status.models
        if model.running
    )
