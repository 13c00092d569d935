"""Records what models took: measured after a load, or learned from a load that ran out of memory."""

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
    """Writes the sizes of the ledger, of the measurements and of managed models, on behalf of `ModelLoader`."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def footprint(self, worker: Worker, but: str) -> Footprint | None:
        """What the worker's process holds by the driver (0 where it isn't listed), and with which models except `but`.

        None while another of its models is loading or unloading: its share of a change is unknown.
        """
        registry = self._registry
        others = [managed for managed in registry.models_in(worker) if managed.entry.id != but]
        if any(managed.state != "ready" for managed in others):
            return None
        sizes = tuple(registry.devices.process_bytes(name).get(worker.pid or 0, 0) for name in worker.devices)
        return Footprint(frozenset(managed.entry.id for managed in others), sizes)

    def record(self, managed: ManagedModel, notice: Loaded, worker: Worker, before: Footprint | None) -> None:
        """Replace the estimate by what the model took, now and for its next load.

        That is the growth of its process on the GPU since `before`, if the driver lists it; else llama.cpp's buffers. A
        process's first model also opened the device: the ledger counts that for it now, but the size that is kept
        doesn't, since the next load may find the device open.
        """
        registry, rpc, count = self._registry, managed.entry.profile.rpc, len(worker.devices)
        reported = measured_bytes(notice.bytes_by_device, registry.planner.ggml_names(worker.devices), rpc)
        now = self.footprint(worker, notice.model)
        grown = _grown(before, now, reported)
        taken = grown or reported
        if taken is None or (rpc and reported is None):
            return
        here, remote = taken[:count], (reported or [])[count:]
        extra = {"estimated": sum(managed.bytes_by_device.values()), "measured": sum(here)}
        logger.info("memory measured", extra={"model": notice.model, **extra, "by_driver": grown is not None})
        managed.bytes_by_device = dict(zip(worker.devices, here, strict=True))
        on_rpc = {f"rpc:{endpoint}": size for endpoint, size in zip(rpc, remote, strict=True)}
        registry.ledger.record_measured(notice.model, {**managed.bytes_by_device, **on_rpc})
        first = now is None or not now.models
        kept = reported if first and reported is not None else [*here, *remote]
        registry.measurements.put(registry.planner.measure_key(managed.entry, managed.context, worker.devices), kept)

    def record_shortage(self, managed: ManagedModel) -> None:
        """A load ran out of memory although the ledger had room: with this context, the model needs more than was
        free."""
        registry = self._registry
        usable = {device.id: device.budget_bytes - device.foreign_bytes for device in registry.device_memory()}
        min_bytes = managed.min_bytes.setdefault(managed.context, {})
        for device, own in managed.bytes_by_device.items():
            others = registry.ledger.held(device) - own
            min_bytes[device] = max(own, usable[device] - others) + 1
        logger.warning("out of memory", extra={"model": managed.entry.id, "needs_at_least": min_bytes})


def _grown(before: Footprint | None, now: Footprint | None, reported: list[int] | None) -> list[int] | None:
    """None where other models were loaded or unloaded meanwhile, or the driver doesn't list the process."""
    if before is None or now is None or before.models != now.models:
        return None
    return grown_bytes(before.sizes, now.sizes, reported)
