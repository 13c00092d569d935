"""Which rows `cortex top` shows, in which order, for a TopState. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from cortex.operator.rows import DeviceRow, ModelRow, NeuronRow, RequestRow, Row
from cortex.top.model import TopState
from cortex.wire.fleet import FleetNeuron
from cortex.wire.status import RunningRequest

__all__ = ["rows_of"]


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
            return (-status.tokens_per_second if status.running else 0.0, status.card.id)
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
