"""When each loaded copy was loaded and last used, and how long its loads take, as far as this gateway can know. Pure.

Statuses say how long a model has been idle, so a restarted gateway has the right times after the first one. Only
requests count as use: statuses, listing and scraping don't.
"""

from __future__ import annotations

from msgspec import Struct

from cortex.gateway.neurons.fleet import Fleet, Neuron
from cortex.gateway.scheduling.prefix_index import CopyKey
from cortex.wire.status import ModelStatus

__all__ = ["ModelUsage"]

_LONG_AGO = float("-inf")


class _Stay(Struct):
    """One load of a model on a neuron. Times are readings of the gateway's clock."""

    boot: str
    loaded_at: float
    used_at: float


class ModelUsage:
    """Written by the scheduler: `observe` after every status, `touch` with every grant and every end."""

    def __init__(self) -> None:
        self._stays: dict[tuple[str, str], _Stay] = {}
        self._boots: dict[str, str] = {}
        self._load_s: dict[tuple[str, str], float] = {}

    def loaded_in(self, neuron: str, model: str, seconds: float) -> None:
        """Record how long a load that this gateway ordered took, evictions and the worker's start included."""
        self._load_s[neuron, model] = seconds

    def load_s(self, neuron: str, status: ModelStatus) -> float | None:
        """Seconds that loading the model again would take: as measured here or as the neuron says, whichever is longer.
        None before either is known."""
        known = [s for s in (self._load_s.get((neuron, status.card.id)), status.load_seconds) if s is not None]
        return max(known, default=None)

    def observe(self, neuron: Neuron, now: float) -> None:
        """Take a neuron's status. What was loaded before its first one counts as loaded for ever: it has no claim to
        a minimum residency."""
        if neuron.status is None:
            return
        first_look = self._boots.get(neuron.name) != neuron.boot
        self._boots[neuron.name] = neuron.boot
        ready = {status.card.id: status for status in neuron.status.models if status.state == "ready"}
        for model, status in ready.items():
            stay = self._stays.get((neuron.name, model))
            if stay is None or stay.boot != neuron.boot:
                loaded_at = _LONG_AGO if first_look else now
                stay = self._stays[neuron.name, model] = _Stay(neuron.boot, loaded_at, now - status.idle_s)
            stay.used_at = max(stay.used_at, now - status.idle_s)
        for name, model in [key for key in self._stays if key[0] == neuron.name and key[1] not in ready]:
            del self._stays[name, model]

    def forget_absent(self, fleet: Fleet) -> None:
        """Drop what is known of neurons that are no longer configured."""
        for key in [key for key in self._stays if fleet.get(key[0]) is None]:
            del self._stays[key]

    def touch(self, neuron: str, model: str, now: float) -> None:
        if stay := self._stays.get((neuron, model)):
            stay.used_at = now

    def loaded_at(self, neuron: str, model: str) -> float:
        stay = self._stays.get((neuron, model))
        return stay.loaded_at if stay else _LONG_AGO

    def used_at(self, neuron: str, model: str) -> float:
        stay = self._stays.get((neuron, model))
        return stay.used_at if stay else _LONG_AGO

    def copy(self, neuron: Neuron, model: str) -> CopyKey:
        return CopyKey(neuron.name, neuron.boot, model, self.loaded_at(neuron.name, model))

    def copies(self, fleet: Fleet) -> set[CopyKey]:
        """Every copy that exists now."""
        return {self.copy(neuron, model) for (name, model) in self._stays if (neuron := fleet.get(name)) is not None}
