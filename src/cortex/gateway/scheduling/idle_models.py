"""Which idle models are unloaded, and which models get a copy without a request for it. Pure."""

from __future__ import annotations

from cortex.gateway.neurons.fleet import Neuron
from cortex.gateway.scheduling.assessments import resident_of
from cortex.gateway.scheduling.state import State
from cortex.placement.residency import expired
from cortex.wire.status import ModelStatus

__all__ = ["idle", "wanted_copies"]


def idle(state: State, now: float) -> list[tuple[Neuron, str]]:
    """The copies that nobody has used for their time to live. A request in the same tick has already been counted."""
    return [
        (neuron, status.card.id)
        for neuron in state.fleet
        if neuron.takes_orders() and neuron.status is not None
        for status in neuron.status.models
        if status.state == "ready" and _is_idle(state, neuron, status, now)
    ]


def _is_idle(state: State, neuron: Neuron, status: ModelStatus, now: float) -> bool:
    """`replicas.min` copies stay however idle: they would be loaded again at once."""
    card = status.card
    ttl_s = state.policy.eviction.idle_ttl_s if card.idle_ttl_s is None else card.idle_ttl_s
    return (
        ttl_s > 0
        and len(state.copies(card.id)) > card.replicas_min
        and expired(resident_of(state, neuron, status), ttl_s, now)
    )


def wanted_copies(state: State, now: float) -> list[tuple[str, bool]]:
    """(model, whether others may be evicted for it): below `replicas.min`, or every copy is full and requests wait.

    A further copy of a model in demand takes free memory only: it must not evict another model.
    """
    cards = {status.card.id: status.card for neuron in state.fleet if neuron.status for status in neuron.status.models}
    wanted = []
    for model, card in cards.items():
        copies = len(state.copies(model)) + len(state.orders.loading(model))
        queue = state.queues.get(model)
        if copies < card.replicas_min:
            wanted.append((model, True))
        elif queue and queue.waiting and 0 < copies < card.replicas_max and state.served(model, now):
            wanted.append((model, False))
    return wanted
