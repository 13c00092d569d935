"""The rows that operators are shown: neurons, their devices and models, and requests."""

from __future__ import annotations

from dataclasses import dataclass

from cortex.wire.fleet import FleetModel, FleetNeuron
from cortex.wire.status import DeviceStatus, ModelStatus, RunningRequest

__all__ = ["DeviceRow", "ModelRow", "NeuronRow", "RequestRow", "Row"]


@dataclass(frozen=True, slots=True)
class NeuronRow:
    neuron: FleetNeuron

    @property
    def key(self) -> str:
        return f"n:{self.neuron.name}"


@dataclass(frozen=True, slots=True)
class DeviceRow:
    neuron: str
    device: DeviceStatus

    @property
    def key(self) -> str:
        return f"d:{self.neuron}:{self.device.id}"


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model on a neuron. `counts` is the gateway's own view of it (queue), None from a neuron alone."""

    neuron: str
    status: ModelStatus
    counts: FleetModel | None = None

    @property
    def key(self) -> str:
        return f"m:{self.neuron}:{self.status.card.id}"

    @property
    def state(self) -> str:
        """The state in a word: a model that can't be loaded isn't just unloaded, one that can't decode isn't ready."""
        match self.status.state:
            case "unloaded" if not self.status.card.available:
                return "unavailable"
            case "ready" if not self.status.servable:
                return "not servable"
            case state:
                return state

    @property
    def queued(self) -> int:
        return self.status.waiting + (self.counts.queued if self.counts else 0)

    @property
    def pinned(self) -> bool:
        return self.status.pinned or (self.counts is not None and self.counts.pinned)


@dataclass(frozen=True, slots=True)
class RequestRow:
    neuron: str
    request: RunningRequest

    @property
    def key(self) -> str:
        return f"r:{self.request.id}"


Row = NeuronRow | DeviceRow | ModelRow | RequestRow
