"""Which models live in which workers: the only way to change it.

Requests (`ensure`, `begin`, `end`), orders, workers' notices and deaths, and the catalogue arrive here, each as one
step on the event loop; what follows from them is done by `load_queue` and `moves`.
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
    Emissions,
    Heartbeat,
    Loaded,
    LoadFailed,
    LoadProgress,
    Notice,
    ProbeReport,
    StateSaved,
    Unloaded,
)

__all__ = ["ModelManager"]

logger = logging.getLogger(__name__)


class ModelManager:
    def __init__(self, holdings: ModelRegistry, pool: WorkerPool) -> None:
        self.holdings = holdings
        self._queue = LoadQueue(holdings)
        self._moves = self._queue.moves
        pool.owner = self
        holdings.pool = pool

    # ---- the catalogue

    def adopt(self, catalog: Catalog) -> None:
        """Take over a fresh scan. A model in memory stays as it was loaded, until it is unloaded; a file gone from disk
        is forgotten."""
        residents, changed = self.holdings.residents, False
        for model, entry in catalog.entries.items():
            resident = residents.get(model)
            if resident is None:
                resident = residents[model] = ManagedModel(entry, card_of(entry))
            elif resident.state in ("unloaded", "failed") and resident.entry != entry:
                resident.entry, resident.state, resident.error = entry, "unloaded", None
                resident.failures = resident.deaths = 0
                resident.too_little.clear()
            else:
                resident.successor = entry if resident.entry != entry else None
                continue
            changed = True
            self.holdings.describe(resident)
        for model in [name for name in residents if name not in catalog.entries]:
            if residents[model].state in ("unloaded", "failed") and not residents[model].busy:
                del residents[model]
                changed = True
        self.holdings.revision += changed
        self.holdings.changes.tell()

    # ---- requests

    def ensure(self, model: str) -> Loading | None:
        """None when `model` can take a request now, else the load to wait for, started if need be.

        Raises the error of a failed load while it is remembered.
        """
        resident = self.holdings.get(model)
        if resident.state == "ready" and not resident.closing:
            return None
        if resident.loading is None and resident.state == "failed":
            self._raise_remembered(resident)
        return resident.loading or self._queue.ask(Loading(model, self.holdings.clock()))

    def begin(self, model: str) -> Worker:
        """A request goes to the worker now. Call in the same step as the `ensure` that said None."""
        resident = self.holdings.get(model)
        assert resident.worker is not None
        resident.running += 1
        resident.last_used_at = self.holdings.clock()
        return resident.worker

    def end(self, model: str, *, well: bool) -> None:
        """A request is over; `well` when the model itself did what it should."""
        resident = self.holdings.residents[model]
        resident.running -= 1
        resident.last_used_at = self.holdings.clock()
        if well:
            resident.deaths = 0
        self.settle(resident)

    def settle(self, resident: ManagedModel) -> None:
        """A request has left the model, waiting or running."""
        if resident.running == 0:
            resident.idle.set()
            resident.idle = asyncio.Event()
            self._queue.pump()

    def _raise_remembered(self, resident: ManagedModel) -> None:
        until, now = resident.failed_until, self.holdings.clock()
        assert resident.error is not None
        if until is None:
            raise resident.error
        if now < until:
            raise type(resident.error)(resident.error.message, retry_after=max(int(until - now), 1))

    # ---- orders

    def order_load(self, order: LoadOrder) -> Loading | None:
        """None when it is loaded already. Idempotent: a second order joins the first one's load.

        Raises Conflict when the order was decided on another revision, ModelNotFound.
        """
        resident = self.holdings.get(order.model)
        if resident.loading is not None:
            return resident.loading
        if resident.state == "ready":
            return None
        self._check_revision(order.revision)
        resident.deaths = resident.failures = 0
        resident.too_little.clear()
        for victim in order.evict:
            self._moves.start_unload(self.holdings.get(victim), force=False)
        by_gateway = order.revision is not None
        return self._queue.ask(Loading(order.model, self.holdings.clock(), devices=order.devices, evict=not by_gateway))

    async def order_unload(self, order: UnloadOrder) -> None:
        """Returns when the model is out of memory (at once with `wait` off). Unloading what isn't loaded succeeds."""
        resident = self.holdings.get(order.model)
        if resident.state in ("unloaded", "failed") and resident.loading is None:
            return
        self._check_revision(order.revision)
        if (loading := resident.loading) is not None:
            self._queue.abandon(loading, Conflict(f"{order.model} was unloaded before it was loaded"))
        if loading is None or loading.done:
            self._moves.start_unload(resident, force=order.force)
        elif order.wait:
            await self._unload_behind(loading, resident, order.force)
        else:
            self.holdings.spawn(self._unload_behind(loading, resident, order.force), f"unload-{order.model}")
        if order.wait and resident.state == "unloading":
            await resident.gone.wait()

    async def _unload_behind(self, loading: Loading, resident: ManagedModel, force: bool) -> None:
        """A load that is under way has to end first: llama.cpp can't stop it half-way."""
        with suppress(CortexError):
            await loading.wait()
        self._moves.start_unload(resident, force=force)

    def _check_revision(self, revision: int | None) -> None:
        if revision is not None and revision != self.holdings.revision:
            raise Conflict(f"decided on revision {revision}, this neuron is at {self.holdings.revision}; look again")

    def expire(self, model: str) -> None:
        """Unload a model whose time to live has passed."""
        self._moves.evict(model, "idle")

    def recycle(self, worker: Worker) -> None:
        """Give an idle worker a fresh process, with the same models. Does nothing while any of them is busy."""
        models = self.holdings.models_in(worker)
        if any(resident.busy or resident.state != "ready" for resident in models):
            return
        logger.info("recycling worker", extra={"worker": worker.id, "load_cycles": worker.load_cycles})
        for resident in models:
            self._moves.start_unload(resident, force=False)
        self.holdings.spawn(self._recycle(worker, models), f"recycle-{worker.id}")

    async def _recycle(self, worker: Worker, models: list[ManagedModel]) -> None:
        for resident in models:
            await resident.gone.wait()
        if not self.holdings.models_in(worker):  # else one was loaded while another was still leaving
            await worker.stop()
        for resident in models:
            self._reload(resident.entry.id)

    # ---- workers' words

    def on_notice(self, worker: Worker, notice: Notice) -> None:
        if isinstance(notice, Emissions):
            self.holdings.streams.feed(notice)
            return
        self._on_other(worker, notice)
        self.holdings.changes.tell()

    def _on_other(self, worker: Worker, notice: Notice) -> None:
        match notice:
            case Heartbeat():
                self._on_heartbeat(worker, notice)
            case LoadProgress(model, fraction, stage):
                if loading := self._loading_in(worker, model):
                    loading.advance(stage, fraction, self.holdings.clock())
            case Loaded(model):
                if self._loading_in(worker, model):
                    self._moves.loaded(self.holdings.residents[model], notice, worker)
            case LoadFailed(model, code, message):
                if loading := self._loading_in(worker, model):
                    self._moves.load_failed(loading, _load_error(code, message), worker)
            case Unloaded(model):
                if resident := self._resident_in(worker, model):
                    self._moves.unloaded(resident, worker)
            case StateSaved(model):
                if resident := self._resident_in(worker, model):
                    resident.saved.set()
            case ProbeReport(model):
                resident = self._resident_in(worker, model)
                if resident and resident.probe and not resident.probe.done():
                    resident.probe.set_result(notice)

    def _resident_in(self, worker: Worker, model: str) -> ManagedModel | None:
        resident = self.holdings.residents.get(model)
        return resident if resident is not None and resident.worker is worker else None

    def _loading_in(self, worker: Worker, model: str) -> Loading | None:
        resident = self._resident_in(worker, model)
        return resident.loading if resident is not None and resident.state == "loading" else None

    def _on_heartbeat(self, worker: Worker, notice: Heartbeat) -> None:
        for stats in notice.models:
            resident = self._resident_in(worker, stats.model)
            if resident is None:
                continue
            if stats.canaries > resident.canaries_seen:
                resident.canary_sent_at = None
            if stats.canaries > resident.canaries_seen or stats.steps > resident.steps_seen:
                resident.servable, resident.proven_at = True, self.holdings.clock()
            resident.stats = stats
            resident.canaries_seen, resident.steps_seen = stats.canaries, stats.steps

    # ---- workers' deaths

    def on_death(self, worker: Worker, reason: str) -> None:
        """Blame, fail or reload what lived there; requests hear of it through their streams. No model is to blame
        where a device is: they are loaded again, elsewhere."""
        models = self.holdings.models_in(worker)
        sick = {room.device for room in self.holdings.rooms() if not room.healthy}
        for resident in [] if sick.intersection(worker.devices) else _guilty(models):
            resident.deaths += 1
        for resident in models:
            self._lost(resident, _last_words(resident, worker, reason))
        self.holdings.streams.lose(worker, reason)
        self._queue.pump()
        self.holdings.changes.tell()

    def _lost(self, resident: ManagedModel, error: CortexError) -> None:
        """0. A split within layers may crash llama.cpp: from now on this model is split by layer.
        1. It was leaving anyway: gone. 2. It was loading: failed, though the next request may try again at once.
        3. It has been blamed too often: failed until somebody loads it explicitly. 4. Else load it again."""
        model, hopeless = resident.entry.id, resident.deaths >= MAX_DEATHS
        if resident.entry.profile.split_mode == "tensor" and resident.state == "loading":  # 0
            resident.tensor_split_kills = True
        if resident.state == "unloading":  # 1
            self.holdings.release(resident)
            self.holdings.become(resident, "unloaded")
        elif resident.state == "loading" or hopeless:  # 2, 3
            self._moves.fail(resident, error, None if hopeless else self.holdings.clock())
            logger.error("model failed", extra={"model": model, "deaths": resident.deaths, "given_up": hopeless})
        else:  # 4
            self.holdings.release(resident)
            self.holdings.become(resident, "unloaded")
            asyncio.get_running_loop().call_soon(self._reload, model)  # after all of the dead worker's are judged

    def _reload(self, model: str) -> None:
        resident = self.holdings.residents.get(model)
        if resident and resident.state == "unloaded" and resident.loading is None and not self.holdings.closed:
            self._queue.ask(Loading(model, self.holdings.clock()))

    # ---- the end

    async def close(self) -> None:
        """No more loads; every worker exits, asked first, killed if need be."""
        self.holdings.closed = True
        self._queue.close()
        for task in list(self.holdings.tasks):
            task.cancel()
        await asyncio.gather(*self.holdings.tasks, return_exceptions=True)
        await self.holdings.pool.stop_all()


def _guilty(models: list[ManagedModel]) -> list[ManagedModel]:
    """The model that was loading; else those that were decoding; else nobody can tell, so all."""
    loading = [resident for resident in models if resident.state == "loading"]
    return loading or [resident for resident in models if resident.running] or models


def _last_words(resident: ManagedModel, worker: Worker, reason: str) -> ModelLoadFailed:
    words = " | ".join(worker.log_tail[-3:])
    return ModelLoadFailed(f"{resident.entry.id}: {reason}{'; its last words: ' if words else ''}{words}")


def _load_error(code: str, message: str) -> CortexError:
    error = from_code(code, message)
    return error if isinstance(error, ModelLoadFailed | NoRoom) else ModelLoadFailed(message)
