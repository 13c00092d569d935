"""The neuron's status documents, made from memory alone."""

from __future__ import annotations

import psutil
from msgspec import structs

from cortex.neuron.models.registry import ModelRegistry
from cortex.neuron.models.state import ManagedModel
from cortex.wire.status import DeviceProcess, ModelStatus, RunningRequest
from cortex.wire.worker import EngineModelStats

__all__ = ["device_processes", "model_status", "running_requests"]


def model_status(managed: ManagedModel, registry: ModelRegistry) -> ModelStatus:
    now, loaded, loading = registry.clock(), managed.loaded, managed.loading
    status = ModelStatus(
        card=managed.card,
        state="loading" if loading is not None and managed.state != "unloading" else managed.state,
        servable=managed.servable and managed.state == "ready",
        devices=list(managed.bytes_by_device),
        split_mode=loaded.split_mode if loaded else "none",
        progress=loading.progress if loading else float(managed.state == "ready"),
        stage=loading.stage if loading else (loaded.note if loaded else ""),
        eta_s=loading.eta_s(now) if loading else None,
        error=managed.error.message if managed.error and managed.state == "failed" else "",
        pinned=managed.pinned,
        bytes=sum(managed.bytes_by_device.values()),
        estimate_bytes=managed.needs_bytes,
        load_seconds=managed.load_seconds,
        context=loaded.context if loaded else 0,
        kv_cells=loaded.kv_cells if loaded else 0,
        running=managed.running,
        waiting=managed.waiting,
        idle_s=0.0 if managed.busy or not managed.loaded_at else now - managed.last_used_at,
    )
    return _with_stats(status, managed.stats) if managed.stats else status


def _with_stats(status: ModelStatus, stats: EngineModelStats) -> ModelStatus:
    """The engine's own counts. It queues what its batch can't take yet: that is waiting too."""
    return structs.replace(
        status,
        running=stats.running,
        waiting=status.waiting + stats.waiting,
        kv_used=stats.kv_used,
        kv_cached=stats.kv_cached,
        prompt_tokens_total=stats.prompt_tokens,
        cached_tokens_total=stats.cached_tokens,
        completion_tokens_total=stats.completion_tokens,
        reasoning_tokens_total=stats.reasoning_tokens,
        requests_total=stats.requests,
        tool_calls_total=stats.tool_calls,
        tool_call_failures_total=stats.tool_call_failures,
        preemptions_total=stats.preemptions,
        tokens_per_second=stats.tokens_per_second,
        prefill_tokens_per_second=stats.prefill_tokens_per_second,
        ttft_s=stats.ttft_s,
        prefix_hashes=stats.prefix_hashes,
        prefix_block=stats.prefix_block,
    )


def device_processes(device: str, registry: ModelRegistry) -> list[DeviceProcess]:
    """Who holds memory of `device`, by the driver; ours are named. Empty where it doesn't tell."""
    ours = {worker.pid: worker.id for worker in registry.pool.all() if worker.pid is not None}
    return [
        DeviceProcess(pid, size, _process_name(pid), ours.get(pid, ""))
        for pid, size in registry.devices.process_bytes(device).items()
    ]


def _process_name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""  # gone meanwhile, or of another pid namespace


def running_requests(registry: ModelRegistry) -> list[RunningRequest]:
    found: list[RunningRequest] = []
    for model, managed in registry.models.items():
        for item in managed.stats.requests_running if managed.stats else []:
            stream = registry.active_requests.get(item.id)
            if stream is None:
                continue  # cancelled since the heartbeat
            found.append(
                RunningRequest(
                    id=item.id,
                    model=model,
                    state=item.state,
                    principal=stream.request.principal,
                    prompt_tokens=item.prompt_tokens,
                    cached_tokens=item.cached_tokens,
                    completion_tokens=item.completion_tokens,
                    age_s=registry.clock() - stream.started_at,
                )
            )
    return found
