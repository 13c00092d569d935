"""A neuron's state, and the orders that a gateway or an operator sends to it.

Reading `NeuronStatus` is cheap: it loads nothing and resets no idle timer. The gateway makes its fleet snapshot and its
`/v1/models` from these documents alone, so a restarted gateway has the whole state after one poll of each neuron.
Sizes are bytes, times seconds, unless the name says otherwise.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct

__all__ = [
    "Capabilities",
    "Cost",
    "DeviceKind",
    "DeviceProcess",
    "DeviceStatus",
    "Discovery",
    "Limits",
    "LoadJob",
    "LoadOrder",
    "ModelCard",
    "ModelState",
    "ModelStatus",
    "NeuronStatus",
    "ProfilesMark",
    "ProfilesOrder",
    "Reservation",
    "RunningRequest",
    "UnloadOrder",
    "WorkerState",
    "WorkerStatus",
]

ModelState = Literal["unloaded", "loading", "ready", "unloading", "failed"]
WorkerState = Literal["stopped", "starting", "ready", "draining", "dead"]
DeviceKind = Literal["cuda", "rocm", "vulkan", "metal", "gpu", "cpu", "rpc"]


class DeviceProcess(Struct, frozen=True, omit_defaults=True):
    """A process that holds memory of a device. `worker` is the worker's id if it is one of this neuron's."""

    pid: int
    bytes: int
    name: str = ""
    worker: str = ""


class DeviceStatus(Struct, frozen=True, omit_defaults=True):
    """A device that models can be loaded on. `id` is this neuron's name for it (`cuda0`, `cpu1`), `budget_bytes` what
    cortex may use of it, `used_bytes` what all processes use, `reserved_bytes` what the ledger has reserved for models.
    `backend` is ggml's name for its kind. `ecc_errors` counts uncorrected ones since boot, `xids` are the driver's
    latest error reports. `processes` is filled in `Discovery` only."""

    id: str
    kind: DeviceKind
    name: str
    uuid: str
    total_bytes: int
    free_bytes: int
    budget_bytes: int
    used_bytes: int = 0
    reserved_bytes: int = 0
    utilisation: float | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    compute_capability: str | None = None
    driver: str | None = None
    healthy: bool = True
    health: str = ""
    backend: str = ""
    ecc_errors: int | None = None
    xids: list[int] = []
    processes: list[DeviceProcess] = []


class Discovery(Struct, frozen=True, omit_defaults=True):
    """The host's hardware and software: body of `GET /discovery`."""

    neuron: str
    version: str
    hostname: str
    devices: list[DeviceStatus]
    llama_cpp: str = ""
    os: str = ""
    cpu: str = ""
    cpu_count: int = 0
    memory_bytes: int = 0


class Capabilities(Struct, frozen=True, omit_defaults=True):
    """What a model can do, as announced to clients. `infill` is fill-in-the-middle."""

    chat: bool = True
    completion: bool = True
    embedding: bool = False
    rerank: bool = False
    vision: bool = False
    tools: bool = False
    reasoning: bool = False
    infill: bool = False


class Limits(Struct, frozen=True, omit_defaults=True):
    """Limits of one request in tokens: in all, of its input, of its output. None = whatever the context allows."""

    context: int
    input: int | None = None
    output: int | None = None


class Cost(Struct, frozen=True, omit_defaults=True):
    """Prices per million tokens from models.toml, passed on to clients and not otherwise used."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0


class ModelCard(Struct, frozen=True, omit_defaults=True):
    """What is known about a model without loading it, from its GGUF header and its profile.

    `available` False: it can't be loaded; `problem` says why.
    """

    id: str
    limits: Limits
    capabilities: Capabilities = Capabilities()
    aliases: list[str] = []
    architecture: str = ""
    quantisation: str = ""
    parameters: int = 0
    size_bytes: int = 0
    gguf_hash: str = ""
    context_train: int = 0
    parallel: int = 1
    created: int = 0
    cost: Cost | None = None
    pinned: bool = False
    pinned_on: list[str] = []
    residency_priority: int = 100
    min_devices: int = 1
    min_device_bytes: int = 0
    idle_ttl_s: float | None = None
    replicas_min: int = 0
    replicas_max: int = 1
    available: bool = True
    problem: str = ""


class ModelStatus(Struct, frozen=True, omit_defaults=True):
    """One model on one neuron, loaded or not. `estimate_bytes` is what a load would take per device; `devices` are
    those it is loaded on. `servable`: it has proved that it can decode; a ready model that fails to isn't servable."""

    card: ModelCard
    state: ModelState = "unloaded"
    servable: bool = False
    devices: list[str] = []
    split_mode: str = "none"
    progress: float = 0.0
    stage: str = ""
    eta_s: float | None = None
    error: str = ""
    pinned: bool = False
    bytes: int = 0
    estimate_bytes: int = 0
    load_seconds: float | None = None
    context: int = 0
    running: int = 0
    waiting: int = 0
    kv_cells: int = 0
    kv_used: int = 0
    kv_cached: int = 0
    prompt_tokens_total: int = 0
    cached_tokens_total: int = 0
    completion_tokens_total: int = 0
    reasoning_tokens_total: int = 0
    requests_total: int = 0
    tool_calls_total: int = 0
    tool_call_failures_total: int = 0
    preemptions_total: int = 0
    tokens_per_second: float = 0.0
    prefill_tokens_per_second: float = 0.0
    ttft_s: float = 0.0
    idle_s: float = 0.0
    prefix_hashes: list[int] = []
    prefix_block: int = 0


class WorkerStatus(Struct, frozen=True, omit_defaults=True):
    """One worker process and its devices. `log_tail` are the last lines of its log if it died or failed."""

    id: str
    state: WorkerState
    devices: list[str]
    pid: int | None = None
    rss_bytes: int = 0
    restarts: int = 0
    load_cycles: int = 0
    heartbeat_age_s: float | None = None
    exit_code: int | None = None
    log_tail: list[str] = []


class RunningRequest(Struct, frozen=True, omit_defaults=True):
    """A request on a neuron."""

    id: str
    model: str
    state: Literal["queued", "prefill", "decode"]
    principal: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    age_s: float = 0.0


class Reservation(Struct, frozen=True, omit_defaults=True):
    """An entry of the memory ledger: `model` has `bytes` reserved on `device`, a measured size or an estimate."""

    device: str
    model: str
    bytes: int
    measured: bool = False


class ProfilesMark(Struct, frozen=True, omit_defaults=True):
    """Which profiles a neuron uses: their hash, and their source, a gateway's name or its own "models.toml"."""

    hash: str
    source: str


class ProfilesOrder(Struct, frozen=True, omit_defaults=True):
    """PUT /models/profiles: replace the profiles with the hash `replaces` ("" = none) by `document`, models.toml as
    JSON. A neuron that uses others by now, or a file of its own, refuses with 409."""

    source: str
    replaces: str
    document: Raw


class NeuronStatus(Struct, frozen=True, omit_defaults=True):
    """The whole neuron. `revision` rises with every change of what is loaded; orders carry the one that they are based
    on. `boot` is unique per start of the neuron, which makes restarts recognisable. `warnings` are sentences about the
    config and the model files: names that two files have, default models that don't exist."""

    neuron: str
    version: str
    boot: str
    revision: int
    state: Literal["ready", "draining"]
    devices: list[DeviceStatus]
    workers: list[WorkerStatus]
    models: list[ModelStatus]
    requests: list[RunningRequest] = []
    ledger: list[Reservation] = []
    uptime_s: float = 0.0
    profiles: ProfilesMark | None = None
    warnings: list[str] = []


class LoadOrder(Struct, frozen=True, omit_defaults=True):
    """POST /models/load. `devices` empty = the neuron chooses. `evict` are models to unload first. With `revision`, the
    one the order is based on, a neuron whose revision is another one by now refuses with 409. `wait`: answer when the
    load has ended. `automatic`: nobody asked for it but requests, so that a model that was given up stays failed."""

    model: str
    devices: list[str] = []
    evict: list[str] = []
    wait: bool = True
    revision: int | None = None
    automatic: bool = False


class UnloadOrder(Struct, frozen=True, omit_defaults=True):
    """POST /models/unload. Running requests finish first; with `force` they fail. Otherwise like LoadOrder."""

    model: str
    force: bool = False
    wait: bool = True
    revision: int | None = None


class LoadJob(Struct, frozen=True, omit_defaults=True):
    """The state of one load: body of POST /models/load, and of each event on /models/{id}/events (SSE)."""

    id: str
    model: str
    state: ModelState
    progress: float = 0.0
    stage: str = ""
    eta_s: float | None = None
    devices: list[str] = []
    error: str = ""
    code: str = ""
    status: ModelStatus | None = None
