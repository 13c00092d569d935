"""Loads a model into a worker, once it is decided where: download, dry run, load, and the end of each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from cortex.config.settings import parse_bytes
from cortex.errors import CortexError, ModelLoadFailed, NoRoom, WorkerDied
from cortex.neuron.memory.measured_sizes import MeasuredSizes
from cortex.neuron.models.disk_prefixes import DiskPrefixes
from cortex.neuron.models.registry import LoadEnded, ModelRegistry
from cortex.neuron.models.state import Loading, ManagedModel
from cortex.neuron.models.unloader import ModelUnloader
from cortex.neuron.workers.process import Worker
from cortex.wire.worker import Canary, Load, Loaded, RestoreState

__all__ = ["ModelLoader"]

logger = logging.getLogger(__name__)

_RETRY_S, _MAX_RETRY_S = 5.0, 60.0
"""A failed load is answered with its error for this long before it is tried again, doubling with each failure in a
row."""


class ModelLoader:
    """Writes the models' states for `LoadQueue` and `ModelManager`. `on_change` is called after everything that may
    have released memory or ended a load. For the event loop only; nothing here blocks."""

    def __init__(self, registry: ModelRegistry, on_change: Callable[[], None]) -> None:
        self._registry = registry
        self._on_change = on_change
        self._measured = MeasuredSizes(registry)
        neuron = registry.config.neuron
        self._prefixes = DiskPrefixes(neuron.state_path / "kv", parse_bytes(neuron.kv_to_disk))
        self.unloader = ModelUnloader(registry, self._prefixes, on_change)

    # ---- before a load

    def start_fetch(self, loading: Loading, then: Callable[[Loading], None]) -> None:
        """Download the model's file, then call `then` with the load, which is to be planned again."""
        self._registry.set_state(self._registry.models[loading.model], "loading")
        loading.started_at = self._registry.clock()
        self._begin(loading, self._fetch(loading, then), "fetch")

    async def _fetch(self, loading: Loading, then: Callable[[Loading], None]) -> None:
        registry, loop = self._registry, asyncio.get_running_loop()
        managed = registry.models[loading.model]
        reported = 0.0

        def on_progress(done: int, total: int) -> None:
            nonlocal reported
            fraction = done / total if total else 0.0
            if fraction - reported >= 0.01:  # called for every chunk, from another thread
                reported = fraction
                loop.call_soon_threadsafe(lambda: loading.advance("downloading", fraction, registry.clock()))

        assert registry.fetch is not None
        try:
            managed.entry = await registry.fetch(managed.entry, on_progress)
        except CortexError as error:
            self.fail(managed, error, registry.clock() + _RETRY_S)
            return
        registry.update_card(managed)
        registry.set_state(managed, "unloaded")
        loading.advance("queued", 0.0, registry.clock())
        then(loading)

    def start_dry_run(
        self, loading: Loading, group: Sequence[str], context: int, then: Callable[[Loading], None]
    ) -> None:
        """Have llama.cpp plan the load, then call `then` with it, which is to be planned again by the better size."""
        registry = self._registry
        managed = registry.models[loading.model]
        registry.set_state(managed, "loading")
        loading.advance("sizing", 0.0, registry.clock())

        async def run() -> None:
            await registry.planner.dry_run(managed.entry, context, group)
            registry.update_card(managed)
            registry.set_state(managed, "unloaded")
            loading.advance("queued", 0.0, registry.clock())
            then(loading)

        self._begin(loading, run(), "size")

    # ---- the load

    def start_load(self, loading: Loading, bytes_by_device: Mapping[str, int], context: int) -> None:
        """Reserve the bytes and begin. Call in the same step as the decision that there is room."""
        registry, now = self._registry, self._registry.clock()
        managed = registry.models[loading.model]
        managed.bytes_by_device = dict(bytes_by_device)
        managed.worker = registry.pool.worker_for(list(bytes_by_device), managed.entry.profile.rpc)
        managed.error, managed.context = None, context
        on_rpc = registry.planner.rpc_sizes(managed.entry, context, list(bytes_by_device))
        registry.ledger.reserve(loading.model, {**bytes_by_device, **on_rpc})
        registry.set_state(managed, "loading")
        loading.started_at = now
        loading.advance("starting worker", 0.0, now)
        self._begin(loading, self._load(loading, managed.worker, context), "load")

    async def _load(self, loading: Loading, worker: Worker, context: int) -> None:
        registry = self._registry
        try:
            await worker.ensure_ready()
            if loading.done:
                return
            loading.advance("loading", 0.0, registry.clock())
            entry = registry.models[loading.model].entry
            loading.footprint = self._measured.footprint(worker, loading.model)
            worker.send(Load(registry.planner.spec(entry, context, worker.devices)))
        except WorkerDied as error:
            if not loading.done:  # else on_death has ended it
                self.on_load_failed(loading, ModelLoadFailed(f"{loading.model}: {error.message}"), worker)

    def _begin(self, loading: Loading, work: Coroutine[Any, Any, None], name: str) -> None:
        self._registry.spawn(self._fail_on_bug(loading, work), f"{name}-{loading.model}")

    async def _fail_on_bug(self, loading: Loading, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`; an unexpected exception ends the load too, so that nobody waits for it for ever."""
        try:
            await work
        except Exception:
            if not loading.done:
                error = ModelLoadFailed(f"{loading.model}: an internal error; the neuron's log has the details")
                self.fail(self._registry.models[loading.model], error, self._registry.clock() + _RETRY_S)
                self._on_change()
            raise

    # ---- its end

    def on_loaded(self, managed: ManagedModel, notice: Loaded, worker: Worker) -> None:
        """The worker has loaded it: ready for requests, servable once the canary sent here is answered."""
        now = self._registry.clock()
        managed.loaded, managed.load_seconds = notice, notice.seconds
        managed.loaded_at = managed.last_used_at = now
        managed.failures = 0
        managed.min_bytes.clear()
        managed.canary_sent_at, managed.canaries_seen, managed.steps_seen = now, 0, 0
        worker.load_cycles += 1
        loading, managed.loading = managed.loading, None
        self._measured.record(managed, notice, worker, loading.footprint if loading else None)
        self._registry.update_card(managed)
        self._registry.set_state(managed, "ready")
        extra = {"model": notice.model, "worker": worker.id, "seconds": notice.seconds, "note": notice.note}
        fell_back = managed.entry.profile.split_mode == "tensor" and notice.split_mode == "layer"
        logger.log(logging.WARNING if fell_back else logging.INFO, "model loaded", extra=extra)
        with suppress(WorkerDied):  # on_death follows
            worker.send(Canary(notice.model))
            key = self._registry.planner.measure_key(managed.entry, managed.context, worker.devices)
            if saved := self._prefixes.find(key):
                worker.send(RestoreState(notice.model, str(saved)))
        if loading is not None:
            self._report_end(loading)
            loading.succeed()
        self._on_change()

    def on_load_failed(self, loading: Loading, error: CortexError, worker: Worker) -> None:
        """The worker could not load the model but is alive, or did not start."""
        managed = self._registry.models[loading.model]
        managed.failures += 1
        if isinstance(error, NoRoom):
            self._measured.record_shortage(managed)
        retry_s = min(_RETRY_S * 2 ** (managed.failures - 1), _MAX_RETRY_S)
        self.fail(managed, error, self._registry.clock() + retry_s)
        logger.warning("load failed", extra={"model": loading.model, "reason": error.message})
        self.unloader.stop_if_empty(worker)
        self._on_change()

    def fail(self, managed: ManagedModel, error: CortexError, until: float | None) -> None:
        """End the load under way with `error`, which requests get until `until` (None = until an explicit load)."""
        self._registry.release(managed)
        self._registry.set_state(managed, "failed")
        managed.error, managed.failed_until = error, until
        loading, managed.loading = managed.loading, None
        if loading is not None:
            self._report_end(loading, error.code)
            loading.fail(error)

    def _report_end(self, loading: Loading, code: str = "") -> None:
        began_at = loading.asked_at if loading.started_at is None else loading.started_at
        self._registry.on_event(LoadEnded(loading.model, self._registry.clock() - began_at, code))
