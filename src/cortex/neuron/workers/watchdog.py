"""Checks once a second which workers are silent, stalled, over their memory limit or on a broken device, and which
models are idle beyond their time to live: every deadline that has no timer of its own."""

from __future__ import annotations

import logging
from collections import defaultdict

from cortex.errors import WorkerDied
from cortex.neuron.models.manager import ModelManager
from cortex.neuron.models.state import ManagedModel
from cortex.neuron.workers.process import Worker
from cortex.placement.residency import expired
from cortex.serving.periodic import tick
from cortex.wire.worker import Canary

__all__ = ["Watchdog"]

logger = logging.getLogger(__name__)

_PERIOD_S = 1.0
_SUSPENDED_S = 2.0
"""A sleep that took this much longer than asked for means that this process was stopped or frozen: notices sent
meanwhile are unread, and the workers may have been frozen too, so that round of checks is left out."""
_UNHEALTHY_READINGS = 3
"""Consecutive unhealthy readings after which a device counts as broken: a busy driver may miss one."""


class Watchdog:
    """Reads the registry and calls the manager or a worker; owns no state but its counters.

    `memory_limit_bytes` is per worker process (RSS); None = unlimited. Runs on the event loop.
    """

    def __init__(self, manager: ModelManager, *, memory_limit_bytes: int | None = None) -> None:
        self._manager = manager
        self._memory_limit = memory_limit_bytes
        self._unhealthy_readings: dict[str, int] = {}

    async def run(self) -> None:
        """Until cancelled. An exception in a check is a bug; it is logged and the checks go on."""
        clock = self._manager.registry.clock
        while True:
            slept_at = clock()
            await tick(_PERIOD_S)
            if (late_s := clock() - slept_at - _PERIOD_S) > _SUSPENDED_S:
                logger.warning("this process was suspended, no checks this time", extra={"seconds": round(late_s, 1)})
                continue
            try:
                self.tick()
            except Exception:
                logger.exception("watchdog check failed")
            self._manager.registry.changes.tell()

    def tick(self) -> None:
        """One round of checks."""
        registry = self._manager.registry
        loading: dict[Worker, list[ManagedModel]] = defaultdict(list)
        for managed in registry.models.values():
            if managed.state == "loading" and managed.worker is not None:
                loading[managed.worker].append(managed)
        broken = self._broken_devices()
        for worker in registry.pool.all():
            lost = sorted(broken.keys() & set(worker.devices))
            if lost and worker.pid is not None:
                worker.kill("; ".join(f"lost its device {device} ({broken[device]})" for device in lost))
            self._check(worker, loading.get(worker, []))
            if worker.state == "ready" and worker not in loading:
                self._check_cycles(worker)
        for managed in list(registry.models.values()):
            if managed.state == "ready" and managed.worker in loading:
                self._excuse(managed)
            elif managed.state == "ready":
                self._check_canary(managed)
        self._expire()

    def _broken_devices(self) -> dict[str, str]:
        """Health messages by device, for devices that have been unhealthy for several readings."""
        now = {status.id: status.health for status in self._manager.registry.devices.read() if not status.healthy}
        self._unhealthy_readings = {device: self._unhealthy_readings.get(device, 0) + 1 for device in now}
        return {
            device: health for device, health in now.items() if self._unhealthy_readings[device] >= _UNHEALTHY_READINGS
        }

    def _excuse(self, managed: ManagedModel) -> None:
        """A worker that reads the weights of one model decodes for none: that time doesn't count as late."""
        if managed.canary_sent_at is not None:
            managed.canary_sent_at = self._manager.registry.clock()

    def _check(self, worker: Worker, loading: list[ManagedModel]) -> None:
        """Kill a worker that stalls while loading, or is silent or too big otherwise."""
        neuron = self._manager.registry.config.neuron
        silent_s = worker.silent_s()
        progress = [
            (managed.loading.progress_at, managed.entry.id) for managed in loading if managed.loading is not None
        ]
        if progress:
            # Reading weights keeps a worker's loop busy: while it loads, progress stands in for heartbeats. It loads
            # one model after the other, so that the progress of any is the worker's.
            progress_at, model = max(progress)
            stalled_s = self._manager.registry.clock() - progress_at
            if worker.state == "ready" and stalled_s > neuron.load_stall_s:
                worker.kill(f"made no progress loading {model} for {stalled_s:.0f} s")
        elif silent_s is not None and silent_s > neuron.heartbeat_s:
            worker.kill(f"was silent for {silent_s:.0f} s")
        elif self._memory_limit is not None and worker.rss_bytes > self._memory_limit:
            worker.kill(f"held {worker.rss_bytes} bytes of memory, over neuron.worker_memory = {self._memory_limit}")

    def _check_cycles(self, worker: Worker) -> None:
        """Unloading fragments a device's memory: after `defrag_after_cycles` unloads an idle worker is recycled."""
        cycles = self._manager.registry.config.eviction.defrag_after_cycles
        if cycles and worker.unloads >= cycles:
            self._manager.recycle(worker)

    def _check_canary(self, managed: ManagedModel) -> None:
        """Send a canary to a model that hasn't decoded for `canary_s`. Unanswered for `heartbeat_s`, the model is no
        longer servable; for twice as long, its worker is killed."""
        worker, config, now = managed.worker, self._manager.registry.config.neuron, self._manager.registry.clock()
        assert worker is not None
        if managed.canary_sent_at is not None:
            late_s = now - managed.canary_sent_at
            if late_s > config.heartbeat_s and managed.servable:
                managed.servable = False
                logger.warning("canary not answered", extra={"model": managed.entry.id, "late_s": late_s})
            if late_s > 2 * config.heartbeat_s:
                worker.kill(f"did not decode for {managed.entry.id} within {late_s:.0f} s")
            return
        last_decode_at = max(managed.last_decode_at, managed.loaded_at)
        if config.canary_s and now - last_decode_at > config.canary_s:
            try:
                worker.send(Canary(managed.entry.id))
                managed.canary_sent_at = now
            except WorkerDied:
                return  # on_death follows

    def _expire(self) -> None:
        registry = self._manager.registry
        default_s = registry.config.eviction.idle_ttl_s
        for resident in registry.residents():
            if expired(resident, self._ttl_s(resident.model, default_s), registry.clock()):
                self._manager.expire(resident.model)

    def _ttl_s(self, model: str, default_s: float) -> float:
        own = self._manager.registry.models[model].entry.profile.idle_ttl_s
        return default_s if own is None else own
