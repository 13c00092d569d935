"""Once a second: who is silent, stuck, too big, idle too long or on a broken device.

Everything with a deadline but no timer of its own.
"""

from __future__ import annotations

import logging

from cortex.errors import WorkerDied
from cortex.neuron.models.manager import ModelManager
from cortex.neuron.models.state import ManagedModel
from cortex.neuron.workers.process import Worker
from cortex.placement.residency import expired
from cortex.serving.http.periodic import tick
from cortex.wire.worker import Canary

__all__ = ["Watchdog"]

logger = logging.getLogger(__name__)

_PERIOD_S = 1.0
_AWAY_S = 2.0
"""Who wakes so much later than it meant to was stopped or frozen: what its workers said meanwhile is still unread, and
they may have been frozen, too."""
_SICK_LOOKS = 3
"""A driver that is busy may not answer once; a device that is gone stays gone."""


class Watchdog:
    """Reads the residency and asks it, or a worker, to act; owns nothing."""

    def __init__(self, manager: ModelManager, *, memory_limit_bytes: int | None = None) -> None:
        self._manager = manager
        self._memory_limit = memory_limit_bytes
        self._sick_looks: dict[str, int] = {}

    async def run(self) -> None:
        """Until cancelled. A check that fails is a bug; it is logged and the others go on."""
        clock = self._manager.registry.clock
        while True:
            asleep_at = clock()
            await tick(_PERIOD_S)
            if (away_s := clock() - asleep_at - _PERIOD_S) > _AWAY_S:
                logger.warning("this process stood still, nobody is judged by it", extra={"seconds": round(away_s, 1)})
                continue
            try:
                self.tick()
            except Exception:
                logger.exception("watchdog check failed")
            self._manager.registry.changes.tell()

    def tick(self) -> None:
        manager = self._manager
        loading = {
            r.worker: r for r in manager.registry.models.values() if r.state == "loading" and r.worker is not None
        }
        sick = self._sick()
        for worker in manager.registry.pool.all():
            broken = sick.keys() & set(worker.devices)
            if broken and worker.pid is not None:
                worker.kill("; ".join(f"lost its device {device} ({sick[device]})" for device in sorted(broken)))
            self._check(worker, loading.get(worker))
            if worker.state == "ready" and worker not in loading:
                self._check_cycles(worker)
        for managed in list(manager.registry.models.values()):
            if managed.state == "ready":
                self._check_canary(managed)
        self._expire()

    def _sick(self) -> dict[str, str]:
        """Devices that have been unhealthy for several looks, with what ails them."""
        now = {status.id: status.health for status in self._manager.registry.devices.read() if not status.healthy}
        self._sick_looks = {device: self._sick_looks.get(device, 0) + 1 for device in now}
        return {device: health for device, health in now.items() if self._sick_looks[device] >= _SICK_LOOKS}

    def _check(self, worker: Worker, loading: ManagedModel | None) -> None:
        neuron = self._manager.registry.config.neuron
        silent_s = worker.silent_s()
        if loading is not None and loading.loading is not None:
            # Reading weights keeps a worker's loop busy: while it loads, progress is its heartbeat.
            stalled_s = self._manager.registry.clock() - loading.loading.moved_at
            if worker.state == "ready" and stalled_s > neuron.load_stall_s:
                worker.kill(f"made no progress loading {loading.entry.id} for {stalled_s:.0f} s")
        elif silent_s is not None and silent_s > neuron.heartbeat_s:
            worker.kill(f"was silent for {silent_s:.0f} s")
        elif self._memory_limit is not None and worker.rss_bytes > self._memory_limit:
            worker.kill(f"held {worker.rss_bytes} bytes of memory, over neuron.worker_memory = {self._memory_limit}")

    def _check_cycles(self, worker: Worker) -> None:
        """Loading and unloading fragments a device's memory; after so many cycles an idle worker starts afresh."""
        cycles = self._manager.registry.config.eviction.defrag_after_cycles
        if cycles and worker.load_cycles >= cycles:
            self._manager.recycle(worker)

    def _check_canary(self, managed: ManagedModel) -> None:
        """A model that has been idle or silent for `canary_s` decodes one token, or isn't servable any more; when the
        answer is missing twice as long as a heartbeat may be, its worker can't step and goes."""
        worker, config, now = managed.worker, self._manager.registry.config.neuron, self._manager.registry.clock()
        assert worker is not None
        if managed.canary_sent_at is not None:
            late_s = now - managed.canary_sent_at
            if late_s > config.heartbeat_s and managed.servable:
                managed.servable = False
                logger.warning("model doesn't answer its canary", extra={"model": managed.entry.id, "late_s": late_s})
            if late_s > 2 * config.heartbeat_s:
                worker.kill(f"did not decode for {managed.entry.id} within {late_s:.0f} s")
            return
        proven_at = max(managed.proven_at, managed.loaded_at)
        if config.canary_s and now - proven_at > config.canary_s:
            try:
                worker.send(Canary(managed.entry.id))
                managed.canary_sent_at = now
            except WorkerDied:
                return  # its death is being handled

    def _expire(self) -> None:
        registry = self._manager.registry
        default_s = registry.config.eviction.idle_ttl_s
        for resident in registry.residents():
            if expired(resident, self._ttl_s(resident.model, default_s), registry.clock()):
                self._manager.expire(resident.model)

    def _ttl_s(self, model: str, default_s: float) -> float:
        own = self._manager.registry.models[model].entry.profile.idle_ttl_s
        return default_s if own is None else own
