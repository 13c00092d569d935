"""The state of `cortex top`, and its changes by new documents and results. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

_HISTORY = 60
"""Values of the sparkline; at least as many as the title has room for."""
SORTS = ("name", "state", "tok/s", "queue", "memory")


@dataclass(frozen=True, slots=True)
class Action:
    """An order to the gateway. `question` is shown first; the order is sent when y is pressed."""

    kind: Literal["unload", "load", "pin", "unpin", "drain", "resume", "cancel"]
    target: str
    question: str


@dataclass(frozen=True, slots=True)
class TopState:
    """Everything that the view draws.

    `selected` is a row's key, so that the selection stays on its row when rows move. `history` holds tokens per
    second, the newest last. `pending` is the action whose question is shown. `error` says why the last poll failed.
    """

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
    quit: bool = False


def on_snapshot(state: TopState, fleet: FleetStatus) -> TopState:
    """A new document came. While paused the old one stays; only the sparkline is continued."""
    history = (*state.history, total_tokens_per_second(fleet))[-_HISTORY:]
    if state.paused and state.fleet is not None:
        return replace(state, history=history, error="")
    return replace(state, fleet=fleet, history=history, error="")


def on_unreachable(state: TopState, reason: str) -> TopState:
    """A poll failed. The last document stays and is marked as old."""
    return replace(state, error=reason)


def on_done(state: TopState, outcome: str) -> TopState:
    """An action ended; `outcome` is shown to the user."""
    return replace(state, message=outcome)


def total_tokens_per_second(fleet: FleetStatus) -> float:
    """Output tokens per second of all models that run requests; an idle model still reports its last rate."""
    return sum(
        model.tokens_per_second
        for neuron in fleet.neurons
        if neuron.status
        for model in neuron.status.models
        if model.running
    )
