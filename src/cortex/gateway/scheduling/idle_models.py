"""What should happen to loaded models when nobody asks: idle ones leave, wanted copies are made. Pure."""

from __future__ import annotations

from cortex.gateway.neurons.fleet import Neuron
from cortex.gateway.scheduling.state import State
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
    card = status.card
    ttl_s = state.policy.eviction.idle_ttl_s if card.idle_ttl_s is None else card.idle_ttl_s
    if ttl_s <= 0 or now - state.usage.used_at(neuron.name, card.id) < ttl_s:
        return False
    queue = state.queues.get(card.id)
    in_use = state.running(neuron.name, card.id) > 0 or bool(queue and queue.waiting)
    return not (in_use or state.pinned(status) or len(state.copies(card.id)) <= card.replicas_min)


def wanted_copies(state: State, now: float) -> list[tuple[str, bool]]:
    """(model, whether others may be evicted for it): below `replicas.min`, or every copy is full and requests wait.

    A further copy of a hot model takes free memory only: it must not push another model out.
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
