"""The documents of `wire.fleet`, made from the scheduler's state. Pure; nothing is changed."""

from __future__ import annotations

from typing import Literal

import cortex
from cortex.gateway.neurons.fleet import Neuron
from cortex.gateway.scheduling.model_queue import Ticket
from cortex.gateway.scheduling.state import State
from cortex.wire.fleet import FleetModel, FleetNeuron, FleetRequest, FleetStatus
from cortex.wire.status import ModelStatus

__all__ = ["fleet_status"]

_RequestState = Literal["queued", "loading", "running"]


def fleet_status(
    state: State, now: float, *, boot: str, draining: bool, started_at: float, config_error: str
) -> FleetStatus:
    """The body of `GET /fleet`. `now` and `started_at` are of the scheduler's clock."""
    return FleetStatus(
        version=cortex.__version__,
        boot=boot,
        state="draining" if draining else "ready",
        neurons=[_neuron(state, neuron, now) for neuron in state.fleet],
        models=[_model(state, model, statuses) for model, statuses in sorted(_by_model(state).items())],
        requests=[_request(state, ticket, now) for ticket in state.tickets() if ticket.job.request is not None],
        config_error=config_error,
        uptime_s=now - started_at,
    )


def _neuron(state: State, neuron: Neuron, now: float) -> FleetNeuron:
    return FleetNeuron(
        name=neuron.name,
        endpoint=neuron.endpoint,
        health=neuron.health,
        breaker=neuron.breaker_state(now),
        drained=neuron.drained,
        reason=neuron.ailment,
        age_s=None if neuron.seen_at is None else now - neuron.seen_at,
        in_flight=state.in_flight_on(neuron.name),
        status=neuron.status,
    )


def _by_model(state: State) -> dict[str, list[tuple[Neuron, ModelStatus]]]:
    models: dict[str, list[tuple[Neuron, ModelStatus]]] = {}
    for neuron in state.fleet:
        for status in neuron.status.models if neuron.status else ():
            models.setdefault(status.card.id, []).append((neuron, status))
    return models


def _model(state: State, model: str, statuses: list[tuple[Neuron, ModelStatus]]) -> FleetModel:
    queue = state.queues.get(model)
    alive = [(neuron.name, status) for neuron, status in statuses if neuron.takes_orders()]
    ready = [status for _, status in alive if status.state == "ready"]
    return FleetModel(
        id=model,
        in_flight=queue.in_flight if queue else 0,
        queued=queue.requests_waiting if queue else 0,
        loading_on=[name for name, status in alive if status.state == "loading"],
        loaded_on=[name for name, status in alive if status.state == "ready"],
        pinned=any(state.pinned(status) for _, status in statuses),
        last_error=state.orders.last_error(model) or next((s.error for _, s in statuses if s.error), ""),
        tokens_per_second=sum(status.tokens_per_second for status in ready),
        ttft_s=max((status.ttft_s for status in ready), default=0.0),
        waiting_loads=[ticket.job.id for ticket in (queue.waiting if queue else ()) if ticket.job.request is None],
    )


def _request(state: State, ticket: Ticket, now: float) -> FleetRequest:
    job = ticket.job
    waiting: _RequestState = "loading" if state.being_loaded(job.model) else "queued"
    prompt, cached, completion = _token_counts(state, ticket)
    return FleetRequest(
        id=job.id,
        model=job.model,
        state="running" if ticket.neuron else waiting,
        principal=job.principal,
        neuron=ticket.neuron,
        dialect=job.request.dialect if job.request else "",
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        age_s=now - job.arrived_at,
    )


def _token_counts(state: State, ticket: Ticket) -> tuple[int, int, int]:
    """Prompt, cached and completion tokens in the last status of the request's neuron; zeros before that."""
    neuron = state.fleet.get(ticket.neuron) if ticket.neuron else None
    for request in neuron.status.requests if neuron and neuron.status else ():
        if request.id == ticket.job.id:
            return request.prompt_tokens, request.cached_tokens, request.completion_tokens
    return 0, 0, 0
