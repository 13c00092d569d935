"""Takes a model out of its worker: drain, save its cached prefixes, unload; stops a worker that is left empty."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal

from cortex.errors import WorkerDied
from cortex.neuron.models.disk_prefixes import DiskPrefixes
from cortex.neuron.models.registry import Evicted, ModelRegistry
from cortex.neuron.models.state import ManagedModel
from cortex.neuron.workers.process import Worker
from cortex.wire.worker import SaveState, Unload

__all__ = ["ModelUnloader"]

logger = logging.getLogger(__name__)

_UNLOAD_S = 30.0
"""For the worker to free a model; then it is killed."""
_SAVE_S = 10.0
"""For the worker to write cached prefixes to disk; then the model is unloaded without."""


class ModelUnloader:
    """Writes the models' states on their way out. `on_change` is called when memory has been released. For the event
    loop only; nothing here blocks."""

    def __init__(self, registry: ModelRegistry, prefixes: DiskPrefixes, on_change: Callable[[], None]) -> None:
        self._registry = registry
        self._prefixes = prefixes
        self._on_change = on_change

    def evict(self, model: str, reason: Literal["room", "idle"], wanted_by: str = "") -> None:
        """Unload an idle model that a policy has chosen."""
        logger.info("evicting", extra={"model": model, "reason": reason, "wanted_by": wanted_by})
        self._registry.on_event(Evicted(model, reason))
        self.start_unload(self._registry.models[model], force=False)

    def start_unload(self, managed: ManagedModel, *, force: bool) -> None:
        """Begin to unload a ready model: after its running requests, at most `drain_s`, unless forced. Does nothing in
        any other state."""
        if managed.state != "ready":
            return
        self._registry.set_state(managed, "unloading")
        managed.unloaded = asyncio.Event()
        self._registry.spawn(self._unload(managed, force), f"unload-{managed.entry.id}")

    async def _unload(self, managed: ManagedModel, force: bool) -> None:
        worker, unloaded = managed.worker, managed.unloaded
        assert worker is not None
        try:
            async with asyncio.timeout(0 if force else self._registry.config.limits.drain_s):
                while managed.running:
                    await managed.idle.wait()
        except TimeoutError:
            logger.warning("unloading a busy model", extra={"model": managed.entry.id, "running": managed.running})
        try:
            if not force:
                await self._save_prefixes(managed, worker)
            if unloaded.is_set():
                return  # the worker died meanwhile, and the model may be loaded again
            worker.send(Unload(managed.entry.id))
            async with asyncio.timeout(_UNLOAD_S):
                await unloaded.wait()
        except WorkerDied:
            return  # on_death releases the model
        except TimeoutError:
            worker.kill(f"did not unload {managed.entry.id} within {_UNLOAD_S:.0f} s")

    async def _save_prefixes(self, managed: ManagedModel, worker: Worker) -> None:
        """Have the worker write the model's cached prefixes to disk, for its next load. Raises WorkerDied; a slow or
        full disk is logged only."""
        if not self._prefixes.limit_bytes or managed.loaded is None or managed.loaded.embedding:
            return
        key = self._registry.planner.measure_key(managed.entry, managed.context, worker.devices)
        try:
            directory = await asyncio.to_thread(self._prefixes.make, key)
            managed.saved.clear()
            worker.send(SaveState(managed.entry.id, str(directory)))
            try:
                async with asyncio.timeout(_SAVE_S):
                    await managed.saved.wait()
            except TimeoutError:
                logger.warning("cached prefixes not saved in time", extra={"model": managed.entry.id})
            await asyncio.to_thread(self._prefixes.prune)
        except OSError as error:
            logger.warning("cached prefixes not saved", extra={"model": managed.entry.id, "error": error})

    def on_unloaded(self, managed: ManagedModel, worker: Worker) -> None:
        """The worker has freed it."""
        worker.unloads += 1
        self._registry.release(managed)
        self._registry.set_state(managed, "unloaded")
        logger.info("model unloaded", extra={"model": managed.entry.id, "worker": worker.id})
        self.stop_if_empty(worker)
        self._on_change()

    def stop_if_empty(self, worker: Worker) -> None:
        """Stop a worker without models after `neuron.empty_worker_s`, unless one is loaded meanwhile."""
        if not self._registry.models_in(worker) and worker.state == "ready":
            self._registry.spawn(self._stop_later(worker), f"stop-{worker.id}")

    async def _stop_later(self, worker: Worker) -> None:
        """An empty worker is stopped because its device context holds hundreds of MB; later, because the next load
        often follows at once."""
        await asyncio.sleep(self._registry.config.neuron.empty_worker_s)
        if not self._registry.models_in(worker):
            await worker.stop()
