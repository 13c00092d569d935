"""Everything the scheduler knows, and the views its decisions are made on. Changed by the scheduler alone.

Two counts are kept apart: requests this gateway has on a copy (exact, at this moment) and requests others have there
(as of the last status). Only their sum says whether a copy is busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cortex.gateway.neurons.fleet import Fleet, Neuron
from cortex.gateway.scheduling.effects import OperatorState
from cortex.gateway.scheduling.model_queue import ModelQueue, Ticket
from cortex.gateway.scheduling.model_usage import ModelUsage
from cortex.gateway.scheduling.orders import Orders
from cortex.gateway.scheduling.policy import Policy
from cortex.gateway.scheduling.prefix_index import PrefixIndex
from cortex.gateway.scheduling.router import Affinity, Copy
from cortex.wire.status import ModelCard, ModelStatus

__all__ = ["State"]


@dataclass(slots=True)
class State:
    """Keys (neuron, model) stand for a copy.

    `pins` are operators' overrides of the profiles' `pinned`, by model. `closed` copies get no new requests, since a
    waiting model may have their memory next. `unwanted` copies an operator wants unloaded; the value is `force`.
    `foreign` counts the requests of others on a copy, as of its neuron's last status. `pushed` is what a neuron was
    last sent: (its boot, hash of the profiles).
    """

    policy: Policy = field(default_factory=Policy)
    fleet: Fleet = field(default_factory=Fleet)
    queues: dict[str, ModelQueue] = field(default_factory=dict)
    orders: Orders = field(default_factory=Orders)
    usage: ModelUsage = field(default_factory=ModelUsage)
    prefixes: PrefixIndex = field(default_factory=PrefixIndex)
    affinity: Affinity = field(default_factory=Affinity)
    pins: dict[str, bool] = field(default_factory=dict)
    closed: set[tuple[str, str]] = field(default_factory=set)
    unwanted: dict[tuple[str, str], bool] = field(default_factory=dict)
    foreign: dict[tuple[str, str], int] = field(default_factory=dict)
    pushed: dict[str, tuple[str, str]] = field(default_factory=dict)

    def queue(self, model: str) -> ModelQueue:
        """The model's queue, made at first use; the dispatcher drops it when it is empty."""
        if model not in self.queues:
            self.queues[model] = ModelQueue(model, self.policy.bounds_of(model))
        return self.queues[model]

    def own(self, neuron: str, model: str) -> int:
        """Requests this gateway has running there."""
        queue = self.queues.get(model)
        return sum(ticket.neuron == neuron for ticket in queue.running.values()) if queue else 0

    def running(self, neuron: str, model: str) -> int:
        return self.own(neuron, model) + self.foreign.get((neuron, model), 0)

    def in_flight_on(self, neuron: str) -> int:
        """Requests of any model that this gateway has there."""
        return sum(ticket.neuron == neuron for queue in self.queues.values() for ticket in queue.running.values())

    def pinned(self, status: ModelStatus) -> bool:
        return self.pins.get(status.card.id, status.card.pinned or status.pinned)

    def operator_state(self) -> OperatorState:
        return OperatorState(dict(self.pins), [neuron.name for neuron in self.fleet if neuron.drained])

    def file(self, neuron: str, model: str) -> str | None:
        """The hash of the GGUF that the neuron serves the model from."""
        known = self.fleet.get(neuron)
        status = known.model(model) if known else None
        return status.card.gguf_hash if status else None

    def card(self, model: str) -> ModelCard | None:
        return next((status.card for _, status in self.fleet.holding(model)), None)

    def copies(self, model: str) -> list[Neuron]:
        """The neurons that have it loaded, or are loading it, and take orders."""
        return [
            neuron
            for neuron, status in self.fleet.holding(model)
            if status.state in ("ready", "loading") and neuron.takes_orders()
        ]

    def servable(self, model: str, now: float) -> list[tuple[Neuron, ModelStatus]]:
        """The copies that may be granted requests: loaded, proved by a decode, reachable, not closed or leaving."""
        return [
            (neuron, status)
            for neuron, status in self.fleet.holding(model)
            if status.state == "ready"
            and status.servable
            and neuron.takes_requests(model, now)
            and not self.orders.leaving(neuron.name, model)
            and (neuron.name, model) not in self.closed
        ]

    def served(self, model: str, now: float) -> bool:
        return bool(self.servable(model, now))

    def being_loaded(self, model: str) -> bool:
        """By this gateway's order or anyone else's."""
        shown = any(status.state == "loading" and n.takes_orders() for n, status in self.fleet.holding(model))
        return shown or bool(self.orders.loading(model))

    def copy(self, neuron: Neuron, status: ModelStatus, hashes: Sequence[int], now: float) -> Copy:
        """What the router weighs."""
        model = status.card.id
        held = self.prefixes.overlap(self.usage.copy(neuron, model), hashes, now)
        return Copy(
            neuron=neuron.name,
            running=self.running(neuron.name, model),
            parallel=max(status.card.parallel, 1),
            missing_blocks=len(hashes) - held,
            prefill_tps=status.prefill_tokens_per_second,
            used_at=self.usage.used_at(neuron.name, model),
        )

    def tickets(self) -> list[Ticket]:
        """Every job, waiting or running."""
        return [ticket for queue in self.queues.values() for ticket in [*queue.running.values(), *queue.waiting]]
