"""The models of a fleet document, one row per model and neuron, as `cortex status` and `cortex top` show them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cortex.wire.fleet import FleetModel, FleetNeuron, FleetStatus
from cortex.wire.status import ModelStatus

__all__ = ["ModelRow", "model_rows"]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model on one neuron. `counts` are the gateway's own numbers for it; None from a neuron without a gateway."""

    neuron: str
    status: ModelStatus
    counts: FleetModel | None = None

    @property
    def key(self) -> str:
        """The row's identity from one document to the next."""
        return f"m:{self.neuron}:{self.status.card.id}"

    @property
    def state(self) -> str:
        """The state to show: a model that can't be loaded is "unavailable", one that can't decode is "not servable"."""
        match self.status.state:
            case "unloaded" if not self.status.card.available:
                return "unavailable"
            case "ready" if not self.status.servable:
                return "not servable"
            case state:
                return state

    @property
    def queued(self) -> int:
        """Requests that wait on the neuron or in the gateway."""
        return self.status.waiting + (self.counts.queued if self.counts else 0)

    @property
    def pinned(self) -> bool:
        """Pinned by its profile or by an operator."""
        return self.status.pinned or (self.counts is not None and self.counts.pinned)


def model_rows(fleet: FleetStatus, neuron: FleetNeuron) -> list[ModelRow]:
    """A row for each model of `neuron`, in the order of its document; [] before its first document."""
    counts = {model.id: model for model in fleet.models}
    models = neuron.status.models if neuron.status else []
    return [ModelRow(neuron.name, status, counts.get(status.card.id)) for status in models]
