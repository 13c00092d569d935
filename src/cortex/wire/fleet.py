"""The gateway's documents for operators: the state of the fleet, and placement plans with reasons.

`FleetStatus` is the body of `GET /fleet` and of each `snapshot` on `GET /fleet/events`. `cortex status`, `cortex top`
and `cortex plan` show these structs and nothing else. Sizes are bytes, times seconds.
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
    """A neuron as the gateway knows it. `status` is its last document, `age_s` old; `reason` says why it isn't
    healthy. `in_flight` counts this gateway's requests on it."""

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
    """The gateway's own numbers for a model: its queue and its admitted requests, not those that neurons report.

    `waiting_loads` are the job ids of operators' load orders that it still tries to carry out.
    """

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
    """A request in the gateway: queued, waiting for a load, or running on a neuron."""

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
    """The whole fleet. `boot` is unique per start of the gateway; `config_error` says why the last reload failed."""

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
    """Whether and how this neuron could take the model, why, and which models would be evicted for it."""

    neuron: str
    verdict: Literal["loaded", "loading", "fits", "fits_by_evicting", "busy", "refused"]
    reason: str
    devices: list[DevicePlan] = []
    evict: list[str] = []
    chosen: bool = False


class PlacementPlan(Struct, frozen=True, omit_defaults=True):
    """Body of `GET /fleet/placement/{model}`: a plan per neuron; `summary` is one sentence."""

    model: str
    neurons: list[NeuronPlan]
    summary: str = ""
