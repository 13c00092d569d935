"""The gateway's documents for operators: the fleet as it knows it, and where it would place a model and why.

`FleetStatus` is the body of `GET /fleet` and of each `snapshot` on `GET /fleet/events`; `cortex status`, `cortex top`
and `cortex plan` are made from these structs alone.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from cortex.wire.status import NeuronStatus

__all__ = [
    "BreakerState",
    "DevicePlan",
    "FleetModel",
    "FleetNeuron",
    "FleetRequest",
    "FleetStatus",
    "Health",
    "NeuronPlan",
    "PlacementPlan",
]

Health = Literal["healthy", "degraded", "down"]
BreakerState = Literal["closed", "open", "half_open"]


class FleetNeuron(Struct, frozen=True, omit_defaults=True):
    """What the gateway knows of a neuron. `status` is its last document, `age_s` old; `reason` says why it isn't
    healthy."""

    name: str
    endpoint: str
    health: Health
    breaker: BreakerState = "closed"
    drained: bool = False
    reason: str = ""
    age_s: float | None = None
    in_flight: int = 0
    status: NeuronStatus | None = None


class FleetModel(Struct, frozen=True, omit_defaults=True):
    """What the gateway itself counts per model: its own queue and admissions, not the neurons'. `waiting_loads` are the
    jobs of operators' orders that it still tries to carry out."""

    id: str
    in_flight: int = 0
    queued: int = 0
    loading_on: list[str] = []
    loaded_on: list[str] = []
    pinned: bool = False
    last_error: str = ""
    tokens_per_second: float = 0.0
    ttft_s: float = 0.0
    waiting_loads: list[str] = []


class FleetRequest(Struct, frozen=True, omit_defaults=True):
    """A request that the gateway holds: queued, waiting for a load, or relayed."""

    id: str
    model: str
    state: Literal["queued", "loading", "running"]
    principal: str | None = None
    neuron: str | None = None
    dialect: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    age_s: float = 0.0


class FleetStatus(Struct, frozen=True, omit_defaults=True):
    version: str
    boot: str
    state: Literal["ready", "draining"]
    neurons: list[FleetNeuron]
    models: list[FleetModel] = []
    requests: list[FleetRequest] = []
    config_error: str = ""
    uptime_s: float = 0.0


class DevicePlan(Struct, frozen=True, omit_defaults=True):
    """One device's share of a plan, bytes."""

    device: str
    needed_bytes: int
    free_bytes: int
    budget_bytes: int


class NeuronPlan(Struct, frozen=True, omit_defaults=True):
    """Why this neuron was chosen or refused, and which models would have to be unloaded first."""

    neuron: str
    verdict: Literal["loaded", "loading", "fits", "fits_by_evicting", "busy", "refused"]
    reason: str
    devices: list[DevicePlan] = []
    evict: list[str] = []
    chosen: bool = False


class PlacementPlan(Struct, frozen=True, omit_defaults=True):
    """Body of `GET /fleet/placement/{model}`."""

    model: str
    neurons: list[NeuronPlan]
    summary: str = ""
