"""The loads and unloads that this gateway has ordered and that are not answered yet, and recent failures. Pure.

One decision at a time per neuron: until an order's effect shows in the neuron's status, nothing else is decided there.
It would be decided on a state that is about to change, and refused for its revision.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from cortex.errors import CortexError
from cortex.gateway.neurons.fleet import Fleet, Neuron
from cortex.gateway.scheduling.effects import OrderLoad, OrderUnload

__all__ = ["Failure", "Order", "Orders"]

FAILURE_MEMORY_S = 5.0
"""For this long a failed load is not tried again on that neuron: a bad file fails at once for everybody who asks."""
_MOST_FAILURES = 64
"""Remembered at a time; the oldest goes first."""


@dataclass(slots=True)
class Order:
    """`boot` and `revision` are the neuron's when it was decided. `progress_at` is when its progress last changed: a
    load that makes none for `policy.load_stall_s` is given up."""

    command: OrderLoad | OrderUnload
    boot: str
    revision: int
    given_at: float
    progress: tuple[float, str] = (0.0, "")
    progress_at: float = field(default=0.0)

    def visible(self, neuron: Neuron) -> bool:
        """Whether the neuron's status is from after the order."""
        status = neuron.status
        return status is not None and (status.boot != self.boot or status.revision != self.revision)


class Failure(Struct, frozen=True):
    error: CortexError
    at: float


class Orders:
    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Order] = {}
        self._failures: dict[tuple[str, str], Failure] = {}

    def give(self, command: OrderLoad | OrderUnload, neuron: Neuron, now: float) -> None:
        revision = neuron.status.revision if neuron.status else 0
        self._open[command.neuron, command.model] = Order(command, neuron.boot, revision, now, progress_at=now)

    def close(self, neuron: str, model: str) -> Order | None:
        return self._open.pop((neuron, model), None)

    def abandon(self, neuron: str) -> None:
        """Drop every order to a neuron that can't answer any more."""
        for key in [key for key in self._open if key[0] == neuron]:
            del self._open[key]

    def forget(self, neuron: str) -> None:
        """Drop everything about a neuron that has left the fleet, or is another one now."""
        self.abandon(neuron)
        for key in [key for key in self._failures if key[0] == neuron]:
            del self._failures[key]

    def all(self) -> list[Order]:
        return list(self._open.values())

    def get(self, neuron: str, model: str) -> Order | None:
        return self._open.get((neuron, model))

    def unanswered(self, neuron: Neuron) -> bool:
        """Whether an order is out whose effect the status doesn't show yet."""
        return any(not order.visible(neuron) for key, order in self._open.items() if key[0] == neuron.name)

    def loading(self, model: str) -> list[Order]:
        return [
            order for (_, name), order in self._open.items() if name == model and isinstance(order.command, OrderLoad)
        ]

    def leaving(self, neuron: str, model: str) -> bool:
        """Whether an unanswered order unloads this copy."""
        return any(
            model in order.command.evict if isinstance(order.command, OrderLoad) else model == order.command.model
            for (name, _), order in self._open.items()
            if name == neuron
        )

    def promised(self, neuron: Neuron, device: str, estimate: dict[str, int]) -> int:
        """Bytes on `device` that unanswered loads will take and the neuron's ledger doesn't show yet. `estimate` is
        what each model takes per device."""
        ledger = {(line.device, line.model) for line in (neuron.status.ledger if neuron.status else ())}
        return sum(
            estimate.get(order.command.model, 0)
            for (name, model), order in self._open.items()
            if name == neuron.name
            and isinstance(order.command, OrderLoad)
            and device in order.command.devices
            and (device, model) not in ledger
        )

    def follow(self, fleet: Fleet, now: float) -> None:
        """Record the progress that the statuses show."""
        for (name, model), order in self._open.items():
            neuron = fleet.get(name)
            status = neuron.model(model) if neuron else None
            if status is not None and (shown := (status.progress, status.stage)) != order.progress:
                order.progress, order.progress_at = shown, now

    def stalled(self, now: float, limit_s: float) -> list[Order]:
        return [order for order in self._open.values() if now - order.progress_at > limit_s]

    def failed(self, neuron: str, model: str, error: CortexError, now: float) -> None:
        self._failures[neuron, model] = Failure(error, now)
        if len(self._failures) > _MOST_FAILURES:
            self._failures.pop(next(iter(self._failures)))

    def failure(self, neuron: str, model: str, now: float) -> CortexError | None:
        """Why `model` failed to load there within the last FAILURE_MEMORY_S."""
        failure = self._failures.get((neuron, model))
        return failure.error if failure and now - failure.at < FAILURE_MEMORY_S else None

    def forget_failure(self, neuron: str, model: str) -> None:
        self._failures.pop((neuron, model), None)

    def last_error(self, model: str) -> str:
        """The latest load failure of `model`, for people."""
        found = [failure for (_, name), failure in self._failures.items() if name == model]
        return max(found, key=lambda failure: failure.at).error.message if found else ""
