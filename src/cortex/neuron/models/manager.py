"""Which models live in which workers: the only way to change it.

Requests (`ensure`, `begin`, `end`), orders, workers' notices and deaths, and the catalogue arrive here, each as one
step on the event loop; what follows from them is done by `load_queue` and `loader`.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from cortex.errors import Conflict, CortexError, ModelLoadFailed, NoRoom, from_code
from cortex.neuron.catalog.scan import Catalog
from cortex.neuron.models.load_plan import card_of
from cortex.neuron.models.load_queue import LoadQueue
from cortex.neuron.models.loader import MAX_DEATHS
from cortex.neuron.models.registry import ModelRegistry
from cortex.neuron.models.state import Loading, ManagedModel
from cortex.neuron.workers.pool import WorkerPool
from cortex.neuron.workers.process import Worker
from cortex.wire.status import LoadOrder, UnloadOrder
from cortex.wire.worker import (
    Heartbeat,
    Loaded,
    LoadFailed,
    LoadProgress,
    ProbeReport,
    RelayedEmissions,
    RelayedNotice,
    StateSaved,
    Unloaded,
)

__all__ = ["ModelManager"]

logger = logging.getLogger(__name__)


class ModelManager:
    def __init__(self, registry: ModelRegistry, pool: WorkerPool) -> None:
        self.registry = registry
        self._queue = LoadQueue(registry)
        self._loader = self._queue.loader
        pool.owner = self
        registry.pool = pool

    # ---- the catalogue

    def adopt(self, catalog: Catalog) -> None:
        """Take over a fresh scan. A model in memory stays as it was loaded, until it is unloaded; a file gone from disk
        is forgotten."""
        models, changed = self.registry.models, False
        for model, entry in catalog.entries.items():
            managed = models.get(model)
            if managed is None:
                managed = models[model] = ManagedModel(entry, card_of(entry))
            elif managed.state in ("unloaded", "failed") and managed.entry != entry:
                managed.entry, managed.state, managed.error = entry, "unloaded", None
                managed.failures = managed.deaths = 0
                managed.too_little.clear()
            else:
                managed.successor = entry if managed.entry != entry else None
                continue
            changed = True
            self.registry.describe(managed)
        for model in [name for name in models if name not in catalog.entries]:
            if models[model].state in ("unloaded", "failed") and not models[model].busy:
                del models[model]
                changed = True
        self.registry.revision += changed
        self.registry.changes.tell()

    # ---- requests

    def ensure(self, model: str) -> Loading | None:
        """None when `model` can take a request now, else the load to wait for, started if need be.

        Raises the error of a failed load while it is remembered.
        """
        managed = self.registry.get(model)
        if managed.state == "ready" and not managed.closing:
            return None
        if managed.loading is None and managed.state == "failed":
            self._raise_remembered(managed)
        return managed.loading or self._queue.ask(Loading(model, self.registry.clock()))

    def begin(self, model: str) -> Worker:
        """A request goes to the worker now. Call in the same step as the `ensure` that said None."""
        managed = self.registry.get(model)
        assert managed.worker is not None
        managed.running += 1
        managed.last_used_at = self.registry.clock()
        return managed.worker

    def end(self, model: str, *, well: bool) -> None:
        """A request is over; `well` when the model itself did what it should."""
        managed = self.registry.models[model]
        managed.running -= 1
        managed.last_used_at = self.registry.clock()
        if well:
            managed.deaths = 0
        self.settle(managed)

    def settle(self, managed: ManagedModel) -> None:
        """A request has left the model, waiting or running."""
        if managed.running == 0:
            managed.idle.set()
            managed.idle = asyncio.Event()
            self._queue.pump()

    def _raise_remembered(self, managed: ManagedModel) -> None:
        until, now = managed.failed_until, self.registry.clock()
        assert managed.error is not None
        if until is None:
            raise managed.error
        if now < until:
            raise type(managed.error)(managed.error.message, retry_after=max(int(until - now), 1))

    # ---- orders

    def order_load(self, order: LoadOrder) -> Loading | None:
        """None when it is loaded already. Idempotent: a second order joins the first one's load.

        Raises Conflict when the order was decided on another revision, ModelNotFound.
        """
        managed = self.registry.get(order.model)
        if managed.loading is not None:
            return managed.loading
        if managed.state == "ready":
            return None
        self._check_revision(order.revision)
        managed.deaths = managed.failures = 0
        managed.too_little.clear()
        for victim in order.evict:
            self._loader.start_unload(self.registry.get(victim), force=False)
        by_gateway = order.revision is not None
        return self._queue.ask(Loading(order.model, self.registry.clock(), devices=order.devices, evict=not by_gateway))

    async def order_unload(self, order: UnloadOrder) -> None:
        """Returns when the model is out of memory (at once with `wait` off). Unloading what isn't loaded succeeds."""
        managed = self.registry.get(order.model)
        if managed.state in ("unloaded", "failed") and managed.loading is None:
            return
        self._check_revision(order.revision)
        if (loading := managed.loading) is not None:
            self._queue.abandon(loading, Conflict(f"{order.model} was unloaded before it was loaded"))
        if loading is None or loading.done:
            self._loader.start_unload(managed, force=order.force)
        elif order.wait:
            await self._unload_behind(loading, managed, order.force)
        else:
            self.registry.spawn(self._unload_behind(loading, managed, order.force), f"unload-{order.model}")
        if order.wait and managed.state == "unloading":
            await managed.gone.wait()

    async def _unload_behind(self, loading: Loading, managed: ManagedModel, force: bool) -> None:
        """A load that is under way has to end first: llama.cpp can't stop it half-way."""
        with suppress(CortexError):
            await loading.wait()
        self._loader.start_unload(managed, force=force)

    def _check_revision(self, revision: int | None) -> None:
        if revision is not None and revision != self.registry.revision:
            raise Conflict(f"decided on revision {revision}, this neuron is at {self.registry.revision}; look again")

    def expire(self, model: str) -> None:
        """Unload a model whose time to live has passed."""
        self._loader.evict(model, "idle")

    def recycle(self, worker: Worker) -> None:
        """Give an idle worker a fresh process, with the same models. Does nothing while any of them is busy."""
        models = self.registry.models_in(worker)
        if any(managed.busy or managed.state != "ready" for managed in models):
            return
        logger.info("recycling worker", extra={"worker": worker.id, "load_cycles": worker.load_cycles})
        for managed in models:
            self._loader.start_unload(managed, force=False)
        self.registry.spawn(self._recycle(worker, models), f"recycle-{worker.id}")

    async def _recycle(self, worker: Worker, models: list[ManagedModel]) -> None:
        for managed in models:
            await managed.gone.wait()
        if not self.registry.models_in(worker):  # else one was loaded while another was still leaving
            await worker.stop()
        for managed in models:
            self._reload(managed.entry.id)

    # ---- workers' words

    def on_notice(self, worker: Worker, notice: RelayedNotice) -> None:
        if isinstance(notice, RelayedEmissions):
            self.registry.streams.feed(notice)
            return
        self._on_other(worker, notice)
        self.registry.changes.tell()

    def _on_other(self, worker: Worker, notice: RelayedNotice) -> None:
        match notice:
            case Heartbeat():
                self._on_heartbeat(worker, notice)
            case LoadProgress(model, fraction, stage):
                if loading := self._loading_in(worker, model):
                    loading.advance(stage, fraction, self.registry.clock())
            case Loaded(model):
                if self._loading_in(worker, model):
                    self._loader.loaded(self.registry.models[model], notice, worker)
            case LoadFailed(model, code, message):
                if loading := self._loading_in(worker, model):
                    self._loader.load_failed(loading, _load_error(code, message), worker)
            case Unloaded(model):
                if managed := self._resident_in(worker, model):
                    self._loader.unloaded(managed, worker)
            case StateSaved(model):
                if managed := self._resident_in(worker, model):
                    managed.saved.set()
            case ProbeReport(model):
                managed = self._resident_in(worker, model)
                if managed and managed.probe and not managed.probe.done():
                    managed.probe.set_result(notice)

    def _resident_in(self, worker: Worker, model: str) -> ManagedModel | None:
        managed = self.registry.models.get(model)
        return managed if managed is not None and managed.worker is worker else None

    def _loading_in(self, worker: Worker, model: str) -> Loading | None:
        managed = self._resident_in(worker, model)
        return managed.loading if managed is not None and managed.state == "loading" else None

    def _on_heartbeat(self, worker: Worker, notice: Heartbeat) -> None:
        for stats in notice.models:
            managed = self._resident_in(worker, stats.model)
            if managed is None:
                continue
            if stats.canaries > managed.canaries_seen:
                managed.canary_sent_at = None
            if stats.canaries > managed.canaries_seen or stats.steps > managed.steps_seen:
                managed.servable, managed.proven_at = True, self.registry.clock()
            managed.stats = stats
            managed.canaries_seen, managed.steps_seen = stats.canaries, stats.steps

    # ---- workers' deaths

    def on_death(self, worker: Worker, reason: str) -> None:
        """Blame, fail or reload what lived there; requests hear of it through their streams. No model is to blame
        where a device is: they are loaded again, elsewhere."""
        models = self.registry.models_in(worker)
        sick = {room.device for room in self.registry.rooms() if not room.healthy}
        for managed in [] if sick.intersection(worker.devices) else _guilty(models):
            managed.deaths += 1
        for managed in models:
            self._lost(managed, _last_words(managed, worker, reason))
        self.registry.streams.lose(worker, reason)
        self._queue.pump()
        self.registry.changes.tell()

    def _lost(self, managed: ManagedModel, error: CortexError) -> None:
        """0. A split within layers may crash llama.cpp: from now on this model is split by layer.
        1. It was leaving anyway: gone. 2. It was loading: failed, though the next request may try again at once.
        3. It has been blamed too often: failed until somebody loads it explicitly. 4. Else load it again."""
        model, hopeless = managed.entry.id, managed.deaths >= MAX_DEATHS
        if managed.entry.profile.split_mode == "tensor" and managed.state == "loading":  # 0
            managed.tensor_split_kills = True
        if managed.state == "unloading":  # 1
            self.registry.release(managed)
            self.registry.become(managed, "unloaded")
        elif managed.state == "loading" or hopeless:  # 2, 3
            self._loader.fail(managed, error, None if hopeless else self.registry.clock())
            logger.error("model failed", extra={"model": model, "deaths": managed.deaths, "given_up": hopeless})
        else:  # 4
            self.registry.release(managed)
            self.registry.become(managed, "unloaded")
            asyncio.get_running_loop().call_soon(self._reload, model)  # after all of the dead worker's are judged

    def _reload(self, model: str) -> None:
        managed = self.registry.models.get(model)
        if managed and managed.state == "unloaded" and managed.loading is None and not self.registry.closed:
            self._queue.ask(Loading(model, self.registry.clock()))

    # ---- the end

    async def close(self) -> None:
        """No more loads; every worker exits, asked first, killed if need be."""
        self.registry.closed = True
        self._queue.close()
        for task in list(self.registry.tasks):
            task.cancel()
        await asyncio.gather(*self.registry.tasks, return_exceptions=True)
        await self.registry.pool.stop_all()


def _guilty(models: list[ManagedModel]) -> list[ManagedModel]:
    """The model that was loading; else those that were decoding; else nobody can tell, so all."""
    loading = [managed for managed in models if managed.state == "loading"]
    return loading or [managed for managed in models if managed.running] or models


def _last_words(managed: ManagedModel, worker: Worker, reason: str) -> ModelLoadFailed:
    words = " | ".join(worker.log_tail[-3:])
    return ModelLoadFailed(f"{managed.entry.id}: {reason}{'; its last words: ' if words else ''}{words}")


def _load_error(code: str, message: str) -> CortexError:
    error = from_code(code, message)
    return error if isinstance(error, ModelLoadFailed | NoRoom) else ModelLoadFailed(message)
