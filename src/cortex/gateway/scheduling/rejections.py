"""The answers to waiting jobs: their rejection, or the progress of what they wait for. Pure.

Every rejection says why and, where trying again can help, when. Its reason is a word of a bounded set, for metrics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from cortex.errors import (
    CortexError,
    DeadlineExceeded,
    Draining,
    ModelLoadFailed,
    ModelLoading,
    NoRoom,
    Overloaded,
    RateLimited,
    Unavailable,
)
from cortex.gateway.scheduling.model_queue import ModelQueue, Ticket
from cortex.gateway.scheduling.state import State
from cortex.placement.decision import Refuse, Wait
from cortex.placement.plan import Assessment
from cortex.wire.events import Failed, Progress, failed

__all__ = ["full", "hopeless", "overdue", "progress", "stalled", "tried_too_often"]

_DEFAULT_LOAD_ETA_S = 10.0
"""For a load that has no estimate of its own yet."""


def full(queue: ModelQueue, ticket: Ticket) -> Failed:
    """The queue is at its bound: a named principal sends too much, for others the model is overloaded."""
    after = queue.retry_after()
    if ticket.principal is not None:
        return failed(
            RateLimited(f"too many requests for {queue.model} are waiting; retry in {after} s", retry_after=after)
        )
    return failed(Overloaded(f"the queue for {queue.model} is full; retry in {after} s", retry_after=after))


def tried_too_often(ticket: Ticket, why: str) -> Failed:
    return failed(Unavailable(f"{ticket.tries} attempts failed, the last one: {why}", retry_after=5))


def stalled(neuron: str, model: str) -> CortexError:
    return ModelLoadFailed(f"loading {model} on {neuron} made no progress and was given up", retry_after=10)


def overdue(state: State, queue: ModelQueue, now: float) -> Iterator[tuple[Ticket, Failed, str]]:
    """(waiter, failure, reason) for each waiter whose time is up.

    1. The client's own deadline. 2. A client that sees no progress is asked to retry later. 3. While the model is being
    loaded, the load's own limits count. 4. The queue's limit, longer while no copy serves the model.
    """
    loading, served = state.being_loaded(queue.model), state.served(queue.model, now)
    limit_s = queue.bounds.queue_s + (0.0 if served else state.policy.eviction.starvation_s)
    for ticket in list(queue.waiting):
        waited_s = now - ticket.queued_at
        deadline_s = ticket.job.request.deadline_s if ticket.job.request else None
        if deadline_s is not None and now - ticket.job.arrived_at > deadline_s:  # 1
            yield ticket, failed(DeadlineExceeded("the request's deadline passed while it was waiting")), "deadline"
        elif not served and not ticket.job.patient and waited_s > state.policy.impatient_s:  # 2
            yield ticket, _retry_later(state, queue.model), "loading"
        elif not loading and waited_s > limit_s:  # 3, 4
            why = f"waited {waited_s:.0f} s for {queue.model} without getting a place"
            yield ticket, failed(Overloaded(why, retry_after=queue.retry_after())), "queue_timeout"


def _retry_later(state: State, model: str) -> Failed:
    shown = progress(state, state.queue(model), 0)
    eta_s = shown.eta_s if shown.eta_s is not None else _DEFAULT_LOAD_ETA_S
    share = f", {shown.done / 10:.0f} % done" if shown.stage == "loading" else ""
    message = f"{model} is being loaded{share}; retry in {math.ceil(eta_s)} s"
    return failed(ModelLoading(message, retry_after=max(1, math.ceil(eta_s))))


def progress(state: State, queue: ModelQueue, place: int) -> Progress:
    """Progress of the waiter at `place`, counted from 0: of the load if there is one, else its place in the queue."""
    for _, status in state.fleet.holding(queue.model):
        if status.state == "loading":
            return Progress("loading", int(status.progress * 1000), 1000, status.eta_s, status.stage)
    if state.orders.loading(queue.model):
        return Progress("loading", 0, 1000)
    return Progress("queued", place, len(queue.waiting))


def hopeless(state: State, model: str, assessments: Sequence[Assessment], now: float) -> tuple[Failed, str] | None:
    """Why no neuron will serve `model`, with the reason for metrics; None while waiting may help.

    1. A load may still become possible. 2. A neuron was lost a moment ago and may come back. 3. The last load failed.
    4. There is no room, by size or by pins. 5. No neuron takes requests, or none answers.
    """
    if any(isinstance(each.decision, Wait) for each in assessments):  # 1
        return None
    known = [neuron for neuron, _ in state.fleet.holding(model)]
    lost = [neuron for neuron in known if neuron.lost_at is not None]
    if any(now - (neuron.lost_at or now) < state.policy.return_s for neuron in lost):  # 2
        return None
    reasons = "; ".join(f"{each.neuron}: {each.reason}" for each in assessments) or "no neuron knows it"
    failures = [error for neuron in known if (error := state.orders.failure(neuron.name, model, now))]
    if failures:  # 3
        return failed(_load_failure(failures[-1], model)), "load_failed"
    if all(isinstance(each.decision, Refuse) and each.decision.permanent for each in assessments):  # 4
        return failed(NoRoom(f"{model} can't be loaded: {reasons}")), "no_room"
    if any(neuron.breaker(model).state(now) != "closed" or neuron.drained for neuron in known):  # 5
        return failed(Draining(f"{model} has no neuron that takes requests: {reasons}", retry_after=5)), "no_neuron"
    if lost:
        return failed(Unavailable(f"{model} has no neuron that answers: {reasons}", retry_after=5)), "no_neuron"
    return None


def _load_failure(error: CortexError, model: str) -> CortexError:
    """The neuron's error, as one that tells the client of a fault on the server's side."""
    if isinstance(error, Unavailable):
        return error
    return ModelLoadFailed(f"{model} couldn't be loaded: {error.message}")
