"""What models really took: measured after a load, or learned from one that found no memory."""

from __future__ import annotations

import logging

from cortex.neuron.memory.ledger import grown_bytes, measured_bytes
from cortex.neuron.models.registry import ModelRegistry
from cortex.neuron.models.state import Footprint, ManagedModel
from cortex.neuron.workers.process import Worker
from cortex.wire.worker import Loaded

__all__ = ["MeasuredSizes"]

logger = logging.getLogger(__name__)


class MeasuredSizes:
    """Writes the ledger's and the residents' sizes, as a hand of `ModelLoader`."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def footprint(self, worker: Worker, but: str) -> Footprint | None:
        """What the driver says that the worker's process holds (0 where it doesn't), with its models except one; None
        while another of them comes or goes, whose share nobody could tell."""
        registry = self._registry
        others = [managed for managed in registry.models_in(worker) if managed.entry.id != but]
        if any(managed.state != "ready" for managed in others):
            return None
        sizes = tuple(registry.devices.process_bytes(name).get(worker.pid or 0, 0) for name in worker.devices)
        return Footprint(frozenset(managed.entry.id for managed in others), sizes)

    def settle(self, managed: ManagedModel, notice: Loaded, worker: Worker, before: Footprint | None) -> None:
        """What the model really took replaces the estimate, now and for its next load.

        By how much its process has grown on the GPU, where the driver tells; else what llama.cpp says of its buffers.
        A process's first model also opened the device: it answers for that now, but its next load may find it open.
        """
        registry, rpc, count = self._registry, managed.entry.profile.rpc, len(worker.devices)
        reported = measured_bytes(notice.bytes_by_device, registry.ggml_names(worker.devices), rpc)
        now = self.footprint(worker, notice.model)
        grown = _grown(before, now, reported)
        taken = grown or reported
        if taken is None or (rpc and reported is None):
            return
        here, remote = taken[:count], (reported or [])[count:]
        extra = {"estimated": sum(managed.bytes_by_device.values()), "measured": sum(here)}
        logger.info("memory", extra={"model": notice.model, **extra, "by_driver": grown is not None})
        managed.bytes_by_device = dict(zip(worker.devices, here, strict=True))
        elsewhere = {f"rpc:{endpoint}": size for endpoint, size in zip(rpc, remote, strict=True)}
        registry.ledger.settle(notice.model, {**managed.bytes_by_device, **elsewhere})
        first = now is None or not now.models
        kept = reported if first and reported is not None else [*here, *remote]
        registry.measurements.put(registry.measure_key(managed.entry, managed.context, worker.devices), kept)

    def learn(self, managed: ManagedModel) -> None:
        """There was less room than the ledger thought: with this context, the model needs more than there was."""
        registry = self._registry
        usable = {device.id: device.budget_bytes - device.foreign_bytes for device in registry.device_memory()}
        lacking = managed.too_little.setdefault(managed.context, {})
        for device, own in managed.bytes_by_device.items():
            others = registry.ledger.held(device) - own
            lacking[device] = max(own, usable[device] - others) + 1
        logger.warning("out of memory", extra={"model": managed.entry.id, "too_little": lacking})


def _grown(before: Footprint | None, now: Footprint | None, reported: list[int] | None) -> list[int] | None:
    """None where other models came or went meanwhile, or the driver doesn't tell."""
    if before is None or now is None or before.models != now.models:
        return None
    return grown_bytes(before.sizes, now.sizes, reported)
