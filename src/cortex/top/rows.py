"""The rows of `cortex top`: their kinds, and which of them a TopState shows in which order. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cortex.operator.model_rows import ModelRow, model_rows
from cortex.top.state import TopState
from cortex.wire.fleet import FleetNeuron
from cortex.wire.status import DeviceStatus, RunningRequest

__all__ = ["DeviceRow", "NeuronRow", "RequestRow", "Row", "visible_rows"]


@dataclass(frozen=True, slots=True)
class NeuronRow:
    """A neuron. `key`, here and below, is the row's identity from one document to the next."""

    neuron: FleetNeuron

    @property
    def key(self) -> str:
        return f"n:{self.neuron.name}"


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device of the neuron named `neuron`."""

    neuron: str
    device: DeviceStatus

    @property
    def key(self) -> str:
        return f"d:{self.neuron}:{self.device.id}"


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request. `neuron` is "–" while it waits in the gateway."""

    neuron: str
    request: RunningRequest

    @property
    def key(self) -> str:
        return f"r:{self.request.id}"


Row = NeuronRow | DeviceRow | ModelRow | RequestRow


def visible_rows(state: TopState) -> list[Row]:
    """Top to bottom: each neuron with its devices and models, then the requests; [] before the first document."""
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
    assert state.fleet is not None
    shown = [row for row in model_rows(state.fleet, neuron) if _is_shown(state, row)]
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
            return (-status.tokens_per_second if status.running else 0.0, status.card.id)
        case "queue":
            return (-row.queued - status.running, status.card.id)
        case "memory":
            return (-status.bytes, status.card.id)
        case _:
            return ("", status.card.id)


def _request_rows(state: TopState) -> Iterator[RequestRow]:
    """Requests that neurons report, the oldest first, then those that only the gateway knows."""
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
