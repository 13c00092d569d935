"""The fleet as one frozen value: what each neuron last said of itself, and how much that is worth.

Built from NeuronStatus documents alone, so a restarted gateway knows the truth as soon as its neurons have sent
theirs. A new Fleet replaces the old one whole; only the loop does so.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, structs

from cortex.config.settings import NeuronEntry
from cortex.gateway.scheduling.breaker import Breaker
from cortex.wire.fleet import BreakerState, Health
from cortex.wire.status import ModelStatus, NeuronStatus

__all__ = ["Fleet", "Lost", "Neuron"]


_CLOSED = Breaker()


class Lost(Exception):
    """There is no connection to the neuron, or it broke. Not a CortexError: no client ever sees it."""


class Neuron(Struct, frozen=True):
    """What the gateway knows of one neuron. Times are readings of the gateway's clock.

    `status` stays after the connection is lost, so that its models are still known (503, not 404). `lost_at` is when
    that was, None while there is a connection. A `suspect` neuron broke a request off, or is only now sent its
    profiles: it gets nothing until its next status. `breakers` are by model, without those that are closed and unused:
    a model that fails there doesn't take the others away.
    """

    name: str
    endpoint: str
    token: str | None = None
    status: NeuronStatus | None = None
    seen_at: float | None = None
    lost_at: float | None = None
    reason: str = ""
    drained: bool = False
    suspect: bool = False
    breakers: dict[str, Breaker] = {}

    def seen(self, status: NeuronStatus, now: float) -> Neuron:
        """After a status came. A new boot is a new neuron as far as its breakers are concerned."""
        reborn = self.status is not None and self.status.boot != status.boot
        breakers = {} if reborn else self.breakers
        return structs.replace(
            self, status=status, seen_at=now, lost_at=None, reason="", suspect=False, breakers=breakers
        )

    def lost(self, why: str, now: float) -> Neuron:
        """After its connection broke or couldn't be opened."""
        lost_at = now if self.lost_at is None else self.lost_at
        return structs.replace(self, lost_at=lost_at, reason=why, suspect=False)

    @property
    def health(self) -> Health:
        """down: no connection. degraded: something in it can't work. Else healthy."""
        if self.status is None or self.lost_at is not None:
            return "down"
        return "degraded" if _ailments(self.status) else "healthy"

    @property
    def ailment(self) -> str:
        """Why it isn't healthy, for people."""
        if self.reason or self.status is None:
            return self.reason or "not heard from yet"
        return "; ".join(_ailments(self.status))

    def takes_orders(self) -> bool:
        """Whether loads and unloads may be sent to it."""
        return (
            self.status is not None
            and self.lost_at is None
            and self.status.state == "ready"
            and not self.drained
            and not self.suspect
        )

    def takes_requests(self, model: str, now: float) -> bool:
        return self.takes_orders() and self.breaker(model).allows(now)

    def breaker(self, model: str) -> Breaker:
        return self.breakers.get(model, _CLOSED)

    def with_breaker(self, model: str, breaker: Breaker) -> Neuron:
        others = {name: other for name, other in self.breakers.items() if name != model}
        return structs.replace(self, breakers=others if breaker == _CLOSED else {**others, model: breaker})

    def breaker_state(self, now: float) -> BreakerState:
        """The worst of its models' breakers."""
        states = {breaker.state(now) for breaker in self.breakers.values()}
        return "open" if "open" in states else "half_open" if "half_open" in states else "closed"

    def model(self, model: str) -> ModelStatus | None:
        models = self.status.models if self.status else ()
        return next((status for status in models if status.card.id == model), None)

    @property
    def boot(self) -> str:
        return self.status.boot if self.status else ""


def _ailments(status: NeuronStatus) -> list[str]:
    """What the neuron's own document says is broken: proven by decode and heartbeat, not by HTTP alone."""
    return [
        *(f"device {device.id}: {device.health or 'unhealthy'}" for device in status.devices if not device.healthy),
        *(f"worker {worker.id} is dead" for worker in status.workers if worker.state == "dead"),
        *(f"{m.card.id} is loaded but can't decode" for m in status.models if m.state == "ready" and not m.servable),
    ]


class Fleet(Struct, frozen=True):
    neurons: dict[str, Neuron] = {}

    @classmethod
    def of(cls, entries: list[NeuronEntry], old: Fleet | None = None, now: float = 0.0) -> Fleet:
        """The configured neurons; what `old` knew of those that stay is kept. One with another endpoint than before is
        lost from `now` until it answers there."""
        known = old.neurons if old else {}
        return cls({entry.name: _carried(entry, known.get(entry.name), now) for entry in entries})

    def left(self, old: Fleet) -> list[str]:
        """The neurons of `old` that are gone or have another endpoint."""
        return [
            neuron.name for neuron in old if (new := self.get(neuron.name)) is None or new.endpoint != neuron.endpoint
        ]

    def __iter__(self) -> Iterator[Neuron]:
        return iter(self.neurons.values())

    def get(self, name: str) -> Neuron | None:
        return self.neurons.get(name)

    def twin(self, name: str, boot: str) -> str | None:
        """The entry under which the daemon behind `name` is in the fleet already: it must not be counted twice."""
        known = (neuron for neuron in self if neuron.name != name and neuron.boot == boot and neuron.health != "down")
        return next((neuron.name for neuron in known), None)

    def with_(self, neuron: Neuron) -> Fleet:
        return Fleet({**self.neurons, neuron.name: neuron})

    def holding(self, model: str) -> list[tuple[Neuron, ModelStatus]]:
        """Every neuron whose catalogue has `model`, with what it says of it."""
        return [(neuron, status) for neuron in self if (status := neuron.model(model)) is not None]


def _carried(entry: NeuronEntry, known: Neuron | None, now: float) -> Neuron:
    endpoint = entry.endpoint.rstrip("/")
    if known is None:
        return Neuron(entry.name, endpoint, entry.token)
    if known.endpoint == endpoint:
        return structs.replace(known, token=entry.token)
    moved = structs.replace(known, endpoint=endpoint, token=entry.token, breakers={})
    return moved if known.status is None else moved.lost("its address has changed", now)
