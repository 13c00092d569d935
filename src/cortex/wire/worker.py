"""Messages between a neuron's parent process and its workers, over a socketpair each.

The parent sends commands, a worker notices. A worker owns its devices and every model on them; the parent never loads
llama.cpp. Events of all running requests are sent in one `Emissions` frame per engine step. Submit, Cancel and
Emissions are also used between a gateway and a neuron (`wire.connection`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Raw, Struct

from cortex.wire.events import Event, ReasoningDelta, TextDelta, Tokens, ToolCallArguments, ToolCallEnd
from cortex.wire.inference import Request, Sampling

__all__ = [
    "Canary",
    "Cancel",
    "Command",
    "Emission",
    "Emissions",
    "EngineModelStats",
    "Heartbeat",
    "Load",
    "LoadFailed",
    "LoadProgress",
    "LoadSpec",
    "Loaded",
    "Notice",
    "Probe",
    "ProbeReport",
    "Ready",
    "RelayedEmission",
    "RelayedEmissions",
    "RelayedNotice",
    "RequestStats",
    "RestoreState",
    "SaveState",
    "Shutdown",
    "StateRestored",
    "StateSaved",
    "Submit",
    "Unload",
    "Unloaded",
]


class LoadSpec(Struct, frozen=True, omit_defaults=True):
    """Everything that a worker needs to load one model; made by the neuron from catalogue and profile.

    `context` is tokens per request, `parallel` the sequences decoded together; the KV pool has `kv_cells` cells (None =
    context × parallel). `devices` are ggml device names ("CUDA0", "CPU", "RPC0") in split order, empty = the worker's
    only device. Batch sizes are tokens. `parity_file` is where the model's answer without a split within layers is
    stored, for comparison with a split one. `faults` is `config.FaultsConfig` as a mapping, empty without a `[faults]`
    section in the neuron's config.
    """

    model: str
    path: str
    context: int
    parallel: int = 1
    kv_cells: int | None = None
    mmproj: str | None = None
    split_mode: Literal["none", "layer", "row", "tensor"] = "none"
    devices: list[str] = []
    tensor_split: list[float] = []
    rpc: list[str] = []
    gpu_layers: int = -1
    batch: int = 2048
    ubatch: int = 512
    threads: int | None = None
    threads_batch: int | None = None
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: Literal["auto", "on", "off"] = "auto"
    mmap: bool = True
    mlock: bool = False
    embedding: bool = False
    pooling: Literal["none", "mean", "cls", "last", "rank"] | None = None
    sampling: Sampling = Sampling()
    host_cache_bytes: int = 0
    isolate_keys: bool = False
    prompt_lookup: bool = True
    backend_sampling: bool = False
    chat_template: str | None = None
    template_kwargs: dict[str, Any] = {}
    reasoning_format: str | None = None
    tool_format: str | None = None
    special_tokens_in_content: bool = False
    limit_output: int | None = None
    limit_input: int | None = None
    parity_file: str | None = None
    faults: dict[str, Any] = {}


# ---- commands: parent -> worker


class Load(Struct, frozen=True, tag="load"):
    spec: LoadSpec


class Unload(Struct, frozen=True, tag="unload"):
    """Free the model; requests still running on it fail with Draining. Answered by Unloaded."""

    model: str


class Submit(Struct, frozen=True, tag="submit"):
    """Run a request. `age_s` is how long ago it arrived at the sender; deadlines and TTFT count from there."""

    request: Request
    age_s: float = 0.0


class Cancel(Struct, frozen=True, tag="cancel"):
    """End a request within a step, without a terminal event: the sender no longer waits for one."""

    request_id: str


class Canary(Struct, frozen=True, tag="canary"):
    """Decode one token on `model` as a check; a success is counted in `canaries` of the next Heartbeat."""

    model: str


class Probe(Struct, frozen=True, tag="probe"):
    """Ask for the ProbeReport of a loaded model."""

    model: str


class SaveState(Struct, frozen=True, tag="save_state"):
    """Write the cached prefixes of `model` to `directory`, before it is unloaded. Answered by StateSaved."""

    model: str
    directory: str


class RestoreState(Struct, frozen=True, tag="restore_state"):
    """Read the cached prefixes of `model` from `directory`. Answered by StateRestored."""

    model: str
    directory: str


class Shutdown(Struct, frozen=True, tag="shutdown"):
    """Free everything and exit."""


Command = Load | Unload | Submit | Cancel | Canary | Probe | SaveState | RestoreState | Shutdown


# ---- notices: worker -> parent


class Ready(Struct, frozen=True, tag="ready", omit_defaults=True):
    """The worker's first message. `devices` are the devices that it sees, by ggml's names."""

    pid: int
    devices: list[str]
    llama_cpp: str = ""
    system_info: str = ""


class LoadProgress(Struct, frozen=True, tag="load_progress", omit_defaults=True):
    model: str
    fraction: float
    stage: str = "weights"


class Loaded(Struct, frozen=True, tag="loaded", omit_defaults=True):
    """The model is loaded: the configuration in effect, and what the probe of its chat template found.

    `bytes_by_device` are llama.cpp's own counts of its buffers.
    """

    model: str
    context: int
    kv_cells: int
    parallel: int
    seconds: float
    split_mode: str = "none"
    note: str = ""
    bytes_by_device: dict[str, int] = {}
    tools: bool = False
    reasoning: bool = False
    vision: bool = False
    embedding: bool = False
    rerank: bool = False
    infill: bool = False


class LoadFailed(Struct, frozen=True, tag="load_failed"):
    model: str
    code: str
    message: str


class Unloaded(Struct, frozen=True, tag="unloaded"):
    model: str


class Emission(Struct, frozen=True, omit_defaults=True, gc=False):
    """One request's events of one step, at least one.

    `deltas` is for processes that only pass the events on: that many pieces of output, and nothing in the batch that
    such a process has to look at. None: it has to decode the events (they begin or end the request, say).
    """

    request_id: str
    events: list[Event]
    deltas: int | None = None

    @classmethod
    def of(cls, request_id: str, events: list[Event]) -> Emission:
        return cls(request_id, events, _deltas(events))


_OUTPUT = (TextDelta, ReasoningDelta, ToolCallArguments)
_OUTPUT_OR_SILENT = frozenset((*_OUTPUT, Tokens, ToolCallEnd))


def _deltas(events: Sequence[Event]) -> int | None:
    deltas = 0
    for event in events:
        kind = type(event)
        if kind not in _OUTPUT_OR_SILENT:
            return None
        deltas += kind in _OUTPUT
    return deltas


class Emissions(Struct, frozen=True, tag="emissions"):
    """Everything one engine step produced, for all sequences of all models in this worker."""

    items: list[Emission]


class RelayedEmission(Struct, frozen=True, omit_defaults=True, gc=False):
    """An Emission as a process reads and writes it that passes the events on without decoding them."""

    request_id: str
    events: Raw
    deltas: int | None = None


class RelayedEmissions(Struct, frozen=True, tag="emissions"):
    """The same bytes as `Emissions`."""

    items: list[RelayedEmission]


class RequestStats(Struct, frozen=True, omit_defaults=True, gc=False):
    id: str
    state: Literal["queued", "prefill", "decode"]
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class EngineModelStats(Struct, frozen=True, omit_defaults=True):
    """Counters since the model was loaded. KV cells: `kv_used` by running sequences, `kv_cached` by finished ones.

    `prefix_hashes` are those (`wire.prefix`) of requests whose KV is still held; `prefix_block` is in bytes.
    `canaries` counts the Canary commands that succeeded.
    """

    model: str
    kv_cells: int
    kv_used: int = 0
    kv_cached: int = 0
    running: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    requests: int = 0
    tool_calls: int = 0
    tool_call_failures: int = 0
    preemptions: int = 0
    steps: int = 0
    canaries: int = 0
    tokens_per_second: float = 0.0
    prefill_tokens_per_second: float = 0.0
    ttft_s: float = 0.0
    prefix_hashes: list[int] = []
    prefix_block: int = 0
    requests_running: list[RequestStats] = []


class Heartbeat(Struct, frozen=True, tag="heartbeat", omit_defaults=True):
    """Sent by the engine loop about twice a second, so that its absence shows that the loop hangs."""

    models: list[EngineModelStats]
    rss_bytes: int = 0


class ProbeReport(Struct, frozen=True, tag="probe_report", omit_defaults=True):
    """The chat formats detected in the GGUF, the evidence for them, and whether a rendered tool call parsed back."""

    model: str
    reasoning_format: str | None = None
    tool_format: str | None = None
    evidence: list[str] = []
    template: dict[str, str] = {}
    self_test: str = ""


class StateSaved(Struct, frozen=True, tag="state_saved"):
    model: str
    prefixes: int
    bytes: int


class StateRestored(Struct, frozen=True, tag="state_restored"):
    """Answer to RestoreState: how many saved prefixes are in host memory again."""

    model: str
    prefixes: int
    bytes: int


_OtherNotice = (
    Ready | LoadProgress | Loaded | LoadFailed | Unloaded | Heartbeat | ProbeReport | StateSaved | StateRestored
)

Notice = Emissions | _OtherNotice
"""What a worker sends."""

RelayedNotice = RelayedEmissions | _OtherNotice
"""The same as the parent reads it."""
