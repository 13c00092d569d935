"""A recorded fleet: two neurons, three devices, models in every state."""

from __future__ import annotations

from cortex.wire.fleet import FleetModel, FleetNeuron, FleetRequest, FleetStatus
from cortex.wire.status import DeviceStatus, Limits, ModelCard, ModelStatus, NeuronStatus, RunningRequest

GIB = 1024**3


def model(name: str, **fields: object) -> ModelStatus:
    card = ModelCard(id=name, limits=Limits(context=32768), parallel=8)
    return ModelStatus(card=card, **fields)  # type: ignore[arg-type]


def gpu(name: str, used: float, **fields: object) -> DeviceStatus:
    return DeviceStatus(
        id=name,
        kind="cuda",
        name="NVIDIA GeForce RTX 4090",
        uuid=f"GPU-{name}",
        total_bytes=24 * GIB,
        free_bytes=int((24 - used) * GIB),
        budget_bytes=23 * GIB,
        used_bytes=int(used * GIB),
        reserved_bytes=int(used * GIB),
        **fields,  # type: ignore[arg-type]
    )


def beast() -> NeuronStatus:
    busy = model(
        "Qwen/Qwen3.6-27B-GGUF",
        state="ready",
        servable=True,
        devices=["cuda0"],
        bytes=18 * GIB,
        running=3,
        waiting=1,
        kv_cells=65536,
        kv_used=12000,
        kv_cached=20000,
        prompt_tokens_total=1000,
        cached_tokens_total=820,
        tokens_per_second=92.5,
        ttft_s=0.21,
    )
    return NeuronStatus(
        neuron="beast",
        version="0.1.0",
        boot="b1",
        revision=7,
        state="ready",
        devices=[
            gpu("cuda0", 18.5, utilisation=0.93, temperature_c=71, power_w=320.0),
            gpu("cuda1", 1.0, utilisation=0.0, temperature_c=38),
        ],
        workers=[],
        models=[
            busy,
            model("gemma-3-12b", state="loading", devices=["cuda1"], progress=0.42, stage="weights"),
            model("smollm2-135m", state="failed", error="not a GGUF file\nsecond line"),
            model("phi-4", state="unloaded"),
        ],
        requests=[
            RunningRequest(
                id="chatcmpl-1",
                model="Qwen/Qwen3.6-27B-GGUF",
                state="decode",
                principal="alice",
                prompt_tokens=2100,
                completion_tokens=120,
                age_s=4.2,
            )
        ],
        uptime_s=7300,
    )


def fleet() -> FleetStatus:
    return FleetStatus(
        version="0.1.0",
        boot="g1",
        state="ready",
        neurons=[
            FleetNeuron(name="beast", endpoint="http://beast:13131", health="healthy", status=beast()),
            FleetNeuron(
                name="attic", endpoint="http://attic:13131", health="down", breaker="open", reason="connection refused"
            ),
        ],
        models=[FleetModel(id="Qwen/Qwen3.6-27B-GGUF", in_flight=3, queued=2, pinned=True)],
        requests=[FleetRequest(id="chatcmpl-9", model="gemma-3-12b", state="loading", age_s=11.0)],
        uptime_s=90_000,
    )
