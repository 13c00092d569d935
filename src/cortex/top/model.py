"""What `cortex top` knows, as values: a frozen state, rows derived from it, and what a key does. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from cortex.wire.fleet import FleetModel, FleetNeuron, FleetStatus
from cortex.wire.status import DeviceStatus, ModelStatus, RunningRequest

__all__ = [
    "Action",
    "DeviceRow",
    "ModelRow",
    "NeuronRow",
    "RequestRow",
    "Row",
    "TopState",
    "on_done",
    "on_key",
    "on_snapshot",
    "on_unreachable",
    "rows_of",
    "total_tokens_per_second",
]

HISTORY = 60
SORTS = ("name", "state", "tok/s", "queue", "memory")


@dataclass(frozen=True, slots=True)
class NeuronRow:
    neuron: FleetNeuron

    @property
    def key(self) -> str:
        return f"n:{self.neuron.name}"


@dataclass(frozen=True, slots=True)
class DeviceRow:
    neuron: str
    device: DeviceStatus

    @property
    def key(self) -> str:
        return f"d:{self.neuron}:{self.device.id}"


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model on a neuron. `counts` is the gateway's own view of it (queue), None from a neuron alone."""

    neuron: str
    status: ModelStatus
    counts: FleetModel | None = None

    @property
    def key(self) -> str:
        return f"m:{self.neuron}:{self.status.card.id}"

    @property
    def queued(self) -> int:
        return self.status.waiting + (self.counts.queued if self.counts else 0)

    @property
    def pinned(self) -> bool:
        return self.status.pinned or (self.counts is not None and self.counts.pinned)


@dataclass(frozen=True, slots=True)
class RequestRow:
    neuron: str
    request: RunningRequest

    @property
    def key(self) -> str:
        return f"r:{self.request.id}"


Row = NeuronRow | DeviceRow | ModelRow | RequestRow


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


# ---- rows


def rows_of(state: TopState) -> list[Row]:
    """The picture's rows, top to bottom: each neuron with its devices and models, then the requests."""
    if state.fleet is None:
        return []
    rows: list[Row] = []
    for neuron in state.fleet.neurons:
        models = list(_model_rows(state, neuron))
        if state.filter and not models and not _matches(state, neuron.name):
            continue
        rows.append(NeuronRow(neuron))
        if neuron.status:
            rows += [DeviceRow(neuron.name, device) for device in neuron.status.devices]
        rows += models
    return rows + list(_request_rows(state))


def _model_rows(state: TopState, neuron: FleetNeuron) -> Iterator[ModelRow]:
    if neuron.status is None or state.fleet is None:
        return
    counts = {model.id: model for model in state.fleet.models}
    rows = [ModelRow(neuron.name, status, counts.get(status.card.id)) for status in neuron.status.models]
    shown = [row for row in rows if _is_shown(state, row)]
    yield from sorted(shown, key=lambda row: _sort_key(state.sort, row))


def _is_shown(state: TopState, row: ModelRow) -> bool:
    if not _matches(state, row.neuron, row.status.card.id, *row.status.card.aliases):
        return False
    return state.show_unloaded or row.status.state != "unloaded" or row.queued > 0


def _sort_key(sort: str, row: ModelRow) -> tuple[float | str, str]:
    status = row.status
    match sort:
        case "state":
            return (status.state, status.card.id)
        case "tok/s":
            return (-status.tokens_per_second, status.card.id)
        case "queue":
            return (-row.queued - status.running, status.card.id)
        case "memory":
            return (-status.bytes, status.card.id)
        case _:
            return ("", status.card.id)


def _request_rows(state: TopState) -> Iterator[RequestRow]:
    """Those the neurons run, then those that only the gateway holds yet."""
    assert state.fleet is not None
    seen: set[str] = set()
    found = [
        RequestRow(neuron.name, request)
        for neuron in state.fleet.neurons
        if neuron.status
        for request in neuron.status.requests
    ]
    for row in sorted(found, key=lambda row: -row.request.age_s):
        seen.add(row.request.id)
        if _matches(state, row.neuron, row.request.model, row.request.principal or ""):
            yield row
    for held in state.fleet.requests:
        if held.id not in seen and _matches(state, held.model, held.principal or "", held.neuron or ""):
            request = RunningRequest(
                id=held.id, model=held.model, state="queued", principal=held.principal, age_s=held.age_s
            )
            yield RequestRow(held.neuron or "–", request)


def _matches(state: TopState, *words: str) -> bool:
    return not state.filter or any(state.filter.lower() in word.lower() for word in words)


# ---- keys


def on_key(state: TopState, key: str) -> tuple[TopState, Action | None]:
    """What a key press does: the next state, and an action once it was confirmed."""
    if state.pending is not None:
        confirmed = state.pending if key in ("y", "Y") else None
        return replace(state, pending=None, message="" if confirmed else "left alone"), confirmed
    if state.typing_filter:
        return _typed(state, key), None
    return _command(replace(state, message=""), key), None


def _typed(state: TopState, key: str) -> TopState:
    match key:
        case "enter":
            return replace(state, typing_filter=False)
        case "escape":
            return replace(state, typing_filter=False, filter="")
        case "backspace":
            return replace(state, filter=state.filter[:-1])
        case _ if len(key) == 1 and key.isprintable():
            return replace(state, filter=state.filter + key)
        case _:
            return state


def _command(state: TopState, key: str) -> TopState:
    match key:
        case "q" | "ctrl-c":
            return replace(state, quit=True)
        case "up" | "k":
            return _move(state, -1)
        case "down" | "j":
            return _move(state, 1)
        case "pageup":
            return _move(state, -10)
        case "pagedown":
            return _move(state, 10)
        case " ":
            return replace(state, paused=not state.paused)
        case "s":
            return replace(state, sort=SORTS[(SORTS.index(state.sort) + 1) % len(SORTS)])
        case "a":
            return replace(state, show_unloaded=not state.show_unloaded)
        case "/":
            return replace(state, typing_filter=True)
        case "escape":
            return replace(state, filter="", show_help=False)
        case "?" | "h":
            return replace(state, show_help=not state.show_help)
        case "u" | "l" | "p" | "d" | "c":
            return _ask(state, key)
        case _:
            return state


def _move(state: TopState, by: int) -> TopState:
    keys = [row.key for row in rows_of(state)]
    if not keys:
        return state
    at = keys.index(state.selected) + by if state.selected in keys else 0
    return replace(state, selected=keys[max(0, min(at, len(keys) - 1))])


def _ask(state: TopState, key: str) -> TopState:
    row = next((row for row in rows_of(state) if row.key == state.selected), None)
    action = _action_for(row, key)
    if action is None:
        wanted = {"u": "a model", "l": "a model", "p": "a model", "d": "a neuron", "c": "a request"}[key]
        return replace(state, message=f"select {wanted} first (↑ ↓)")
    return replace(state, pending=action)


def _action_for(row: Row | None, key: str) -> Action | None:
    match key, row:
        case "u", ModelRow(status=status) if status.state != "unloaded":
            return Action("unload", status.card.id, f"unload {status.card.id}?")
        case "l", ModelRow(status=status):
            return Action("load", status.card.id, f"load {status.card.id}?")
        case "p", ModelRow(status=status) if row.pinned:
            return Action("unpin", status.card.id, f"unpin {status.card.id}?")
        case "p", ModelRow(status=status):
            return Action("pin", status.card.id, f"pin {status.card.id}?")
        case "d", NeuronRow(neuron=neuron) if neuron.drained:
            return Action("resume", neuron.name, f"give {neuron.name} work again?")
        case "d", NeuronRow(neuron=neuron):
            return Action("drain", neuron.name, f"drain {neuron.name}?")
        case "c", RequestRow(request=request):
            return Action("cancel", request.id, f"cancel {request.id}?")
        case _:
            return None
