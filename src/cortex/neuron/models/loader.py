"""Bringing a model into a worker and out of it again, once it is decided that it may go there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from cortex.config.settings import parse_bytes
from cortex.errors import CortexError, ModelLoadFailed, NoRoom, WorkerDied
from cortex.neuron.memory.measured_sizes import MeasuredSizes
from cortex.neuron.models.disk_prefixes import DiskPrefixes
from cortex.neuron.models.registry import Evicted, LoadEnded, ModelRegistry
from cortex.neuron.models.state import Loading, ManagedModel
from cortex.neuron.workers.process import Worker
from cortex.wire.worker import Canary, Load, Loaded, RestoreState, SaveState, Unload

__all__ = ["MAX_DEATHS", "ModelLoader"]

logger = logging.getLogger(__name__)

MAX_DEATHS = 3
"""Deaths of workers in a row that a model may be blamed for before it is given up."""
_UNLOAD_S, _SAVE_S = 30.0, 10.0
_REMEMBER_S = 5.0
"""A failed load is answered from memory for this long, doubling with each failure in a row, up to a minute."""


class ModelLoader:
    """`on_change` is called after everything that may have made room or ended a wait."""

    def __init__(self, registry: ModelRegistry, on_change: Callable[[], None]) -> None:
        self._registry = registry
        self._on_change = on_change
        self._sizing = MeasuredSizes(registry)
        neuron = registry.config.neuron
        self._saved = DiskPrefixes(neuron.state_path / "kv", parse_bytes(neuron.kv_to_disk))

    # ---- in

    def start_fetch(self, loading: Loading, then: Callable[[Loading], None]) -> None:
        """Download the model's file, then hand the load back to the queue."""
        self._registry.become(self._registry.models[loading.model], "loading")
        loading.started_at = self._registry.clock()
        self._begin(loading, self._fetch(loading, then), "fetch")

    async def _fetch(self, loading: Loading, then: Callable[[Loading], None]) -> None:
        registry, loop = self._registry, asyncio.get_running_loop()
        managed = registry.models[loading.model]
        told = 0.0

        def on_progress(done: int, total: int) -> None:
            nonlocal told
            fraction = done / total if total else 0.0
            if fraction - told >= 0.01:  # called for every chunk, from another thread
                told = fraction
                loop.call_soon_threadsafe(lambda: loading.advance("downloading", fraction, registry.clock()))

        assert registry.fetch is not None
        try:
            managed.entry = await registry.fetch(managed.entry, on_progress)
        except CortexError as error:
            self.fail(managed, error, registry.clock() + _REMEMBER_S)
            return
        registry.describe(managed)
        registry.become(managed, "unloaded")
        loading.advance("queued", 0.0, registry.clock())
        then(loading)

    def start_dry_run(
        self, loading: Loading, group: Sequence[str], context: int, then: Callable[[Loading], None]
    ) -> None:
        """Find out what a load would really take, then hand the load back to the queue."""
        registry = self._registry
        managed = registry.models[loading.model]
        registry.become(managed, "loading")
        loading.advance("sizing", 0.0, registry.clock())

        async def run() -> None:
            await registry.dry_run(managed.entry, context, group)
            registry.describe(managed)
            registry.become(managed, "unloaded")
            loading.advance("queued", 0.0, registry.clock())
            then(loading)

        self._begin(loading, run(), "size")

    def start_load(self, loading: Loading, bytes_by_device: Mapping[str, int], context: int) -> None:
        """Reserve the bytes and begin. Call in the same step as the decision that there is room."""
        registry, now = self._registry, self._registry.clock()
        managed = registry.models[loading.model]
        managed.bytes_by_device = dict(bytes_by_device)
        managed.worker = registry.pool.on(list(bytes_by_device), managed.entry.profile.rpc)
        managed.error, managed.context = None, context
        elsewhere = registry.rpc_sizes(managed.entry, context, list(bytes_by_device))
        registry.ledger.reserve(loading.model, {**bytes_by_device, **elsewhere})
        registry.become(managed, "loading")
        loading.started_at = now
        loading.advance("starting worker", 0.0, now)
        self._begin(loading, self._load(loading, managed.worker, context), "load")

    def _begin(self, loading: Loading, work: Coroutine[Any, Any, None], name: str) -> None:
        self._registry.spawn(self._to_an_end(loading, work), f"{name}-{loading.model}")

    async def _to_an_end(self, loading: Loading, work: Coroutine[Any, Any, None]) -> None:
        """A bug in `work` must not leave those who wait for the load waiting for ever."""
        try:
            await work
        except Exception:
            if not loading.done:
                error = ModelLoadFailed(f"{loading.model}: an internal error; the neuron's log has the details")
                self.fail(self._registry.models[loading.model], error, self._registry.clock() + _REMEMBER_S)
                self._on_change()
            raise

    async def _load(self, loading: Loading, worker: Worker, context: int) -> None:
        registry = self._registry
        try:
            await worker.ensure_ready()
            if loading.done:
                return
            loading.advance("loading", 0.0, registry.clock())
            entry = registry.models[loading.model].entry
            loading.before = self._sizing.footprint(worker, loading.model)
            worker.send(Load(registry.spec(entry, context, worker.devices)))
        except WorkerDied as error:
            if not loading.done:  # else its death has been dealt with
                self.load_failed(loading, ModelLoadFailed(f"{loading.model}: {error.message}"), worker)

    def loaded(self, managed: ManagedModel, notice: Loaded, worker: Worker) -> None:
        """The worker has it: ready for requests, with a first canary on its way."""
        now = self._registry.clock()
        managed.loaded, managed.load_seconds = notice, notice.seconds
        managed.loaded_at = managed.last_used_at = now
        managed.failures = 0
        managed.too_little.clear()
        managed.canary_sent_at, managed.canaries_seen, managed.steps_seen = now, 0, 0
        worker.load_cycles += 1
        loading, managed.loading = managed.loading, None
        self._sizing.settle(managed, notice, worker, loading.before if loading else None)
        self._registry.describe(managed)
        self._registry.become(managed, "ready")
        extra = {"model": notice.model, "worker": worker.id, "seconds": notice.seconds, "note": notice.note}
        fell_back = managed.entry.profile.split_mode == "tensor" and notice.split_mode == "layer"
        logger.log(logging.WARNING if fell_back else logging.INFO, "model loaded", extra=extra)
        with suppress(WorkerDied):  # its death is on its way to us
            worker.send(Canary(notice.model))
            if saved := self._saved.find(self._prefix_key(managed, worker)):
                worker.send(RestoreState(notice.model, str(saved)))
        if loading is not None:
            self._tell_end(loading)
            loading.succeed()
        self._on_change()

    def load_failed(self, loading: Loading, error: CortexError, worker: Worker) -> None:
        """The worker lives and says why; the model is answered from memory for a while."""
        managed = self._registry.models[loading.model]
        managed.failures += 1
        if isinstance(error, NoRoom):
            self._sizing.learn(managed)
        pause_s = min(_REMEMBER_S * 2 ** (managed.failures - 1), 60.0)
        self.fail(managed, error, self._registry.clock() + pause_s)
        logger.warning("load failed", extra={"model": loading.model, "reason": error.message})
        self._retire_if_empty(worker)
        self._on_change()

    def fail(self, managed: ManagedModel, error: CortexError, until: float | None) -> None:
        """Remember `error` until then (None = until an explicit load) and end the load under way with it."""
        self._registry.release(managed)
        self._registry.become(managed, "failed")
        managed.error, managed.failed_until = error, until
        loading, managed.loading = managed.loading, None
        if loading is not None:
            self._tell_end(loading, error.code)
            loading.fail(error)

    def _tell_end(self, loading: Loading, code: str = "") -> None:
        began_at = loading.asked_at if loading.started_at is None else loading.started_at
        self._registry.tell(LoadEnded(loading.model, self._registry.clock() - began_at, code))

    # ---- out

    def evict(self, model: str, reason: Literal["room", "idle"], wanted_by: str = "") -> None:
        """Unload an idle model that a policy has chosen."""
        logger.info("evicting", extra={"model": model, "reason": reason, "wanted_by": wanted_by})
        self._registry.tell(Evicted(model, reason))
        self.start_unload(self._registry.models[model], force=False)

    def start_unload(self, managed: ManagedModel, *, force: bool) -> None:
        """Begin taking a ready model out of memory, after its running requests unless forced."""
        if managed.state != "ready":
            return
        self._registry.become(managed, "unloading")
        managed.gone = asyncio.Event()
        self._registry.spawn(self._unload(managed, force), f"unload-{managed.entry.id}")

    async def _unload(self, managed: ManagedModel, force: bool) -> None:
        worker, gone = managed.worker, managed.gone
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
            if gone.is_set():
                return  # its worker died meanwhile, and the model may be loaded again
            worker.send(Unload(managed.entry.id))
            async with asyncio.timeout(_UNLOAD_S):
                await gone.wait()
        except WorkerDied:
            return  # its death releases the model
        except TimeoutError:
            worker.kill(f"did not unload {managed.entry.id} within {_UNLOAD_S:.0f} s")

    async def _save_prefixes(self, managed: ManagedModel, worker: Worker) -> None:
        """Write what the model has cached to disk, for its next load; a slow disk is not worth waiting for."""
        if not self._saved.limit_bytes or managed.loaded is None or managed.loaded.embedding:
            return
        try:
            directory = await asyncio.to_thread(self._saved.make, self._prefix_key(managed, worker))
            managed.saved.clear()
            worker.send(SaveState(managed.entry.id, str(directory)))
            try:
                async with asyncio.timeout(_SAVE_S):
                    await managed.saved.wait()
            except TimeoutError:
                logger.warning("cached prefixes not saved in time", extra={"model": managed.entry.id})
            await asyncio.to_thread(self._saved.prune)
        except OSError as error:
            logger.warning("cached prefixes not saved", extra={"model": managed.entry.id, "error": error})

    def _prefix_key(self, managed: ManagedModel, worker: Worker) -> str:
        """One for each file, configuration and build: a state fits nothing else."""
        return self._registry.measure_key(managed.entry, managed.context, worker.devices)

    def unloaded(self, managed: ManagedModel, worker: Worker) -> None:
        """The worker has let go of it."""
        self._registry.release(managed)
        self._registry.become(managed, "unloaded")
        logger.info("model unloaded", extra={"model": managed.entry.id, "worker": worker.id})
        self._retire_if_empty(worker)
        self._on_change()

    def _retire_if_empty(self, worker: Worker) -> None:
        if not self._registry.models_in(worker) and worker.state == "ready":
            self._registry.spawn(self._retire(worker), f"retire-{worker.id}")

    async def _retire(self, worker: Worker) -> None:
        """An empty worker exits: its device context holds hundreds of MB. Not at once, a swap may follow."""
        await asyncio.sleep(self._registry.config.neuron.empty_worker_s)
        if not self._registry.models_in(worker):
            await worker.stop()
