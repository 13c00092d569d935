"""Which models live in which workers. The only writer of residents, placements and reservations.

Everything that may change them arrives here: requests (`enter`, `ensure`, `begin`, `end`), orders, workers' notices
and deaths, and the clock (`tick`). What to do about room is decided by `placement`, in the same step as the
reservation, so no two loads count on the same bytes; `pump` asks again after every change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from cortex.config import Config
from cortex.errors import Conflict, CortexError, Draining, ModelLoadFailed, ModelNotFound, NoRoom, WorkerDied, from_code
from cortex.neuron.catalog import Catalog
from cortex.neuron.devices import DeviceSource
from cortex.neuron.ledger import Ledger
from cortex.neuron.placement import Evict, Need, Occupant, Place, Refuse, Room, Wait, decide
from cortex.neuron.plan import contexts, device_sets, spec_of
from cortex.neuron.resident import Loading, Resident
from cortex.neuron.streams import Streams
from cortex.neuron.supervisor import Worker
from cortex.neuron.workers import WorkerPool, ggml_names
from cortex.wire.status import LoadOrder, UnloadOrder
from cortex.wire.worker import (
    Canary,
    Emissions,
    Heartbeat,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    Notice,
    ProbeReport,
    Unload,
    Unloaded,
)

__all__ = ["MAX_DEATHS", "Residency"]

logger = logging.getLogger(__name__)

MAX_DEATHS = 3
_UNLOAD_S = 30.0
_REMEMBER_S = 5.0
"""A failed load is answered from memory for this long, doubling with each failure in a row, up to a minute."""


class Residency:
    """`pool` is set by whoever makes the workers, since they report to this object."""

    pool: WorkerPool

    def __init__(self, config: Config, devices: DeviceSource, streams: Streams, clock: Callable[[], float]) -> None:
        self.config = config
        self.devices = devices
        self.streams = streams
        self.ledger = Ledger()
        self.residents: dict[str, Resident] = {}
        self.revision = 0
        self.clock = clock
        self._closed = False
        self._queue: list[Loading] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None

    # ---- the catalogue

    def adopt(self, catalog: Catalog) -> None:
        """Take over a fresh scan. A model in memory stays as it was loaded; a file gone from disk is forgotten."""
        for model, entry in catalog.entries.items():
            resident = self.residents.setdefault(model, Resident(entry))
            if resident.state in ("unloaded", "failed"):
                if resident.entry != entry:
                    resident.state, resident.error, resident.failures, resident.deaths = "unloaded", None, 0, 0
                resident.entry = entry
        for model in [name for name, kept in self.residents.items() if name not in catalog.entries]:
            if self.residents[model].state in ("unloaded", "failed") and not self.residents[model].busy:
                del self.residents[model]
        self.revision += 1

    def get(self, model: str) -> Resident:
        """Raises ModelNotFound."""
        if model not in self.residents:
            known = ", ".join(sorted(self.residents)) or "none"
            raise ModelNotFound(f"no model {model!r} here; the models are: {known}", param="model")
        return self.residents[model]

    # ---- requests

    def ensure(self, model: str) -> Loading | None:
        """None when `model` can take a request now, else the load to wait for, started if need be.

        Raises the error of a failed load while it is remembered.
        """
        resident = self.get(model)
        if resident.state == "ready" and not resident.closing:
            return None
        if resident.loading is None and resident.state == "failed":
            self._raise_remembered(resident)
        return resident.loading or self._ask(Loading(model, self.clock()))

    def begin(self, model: str) -> Worker:
        """A request goes to the worker now. Call in the same step as the `ensure` that said None."""
        resident = self.get(model)
        assert resident.worker is not None
        resident.running += 1
        resident.last_used_at = self.clock()
        return resident.worker

    def end(self, model: str, *, well: bool) -> None:
        """A request is over; `well` when the model itself did what it should."""
        resident = self.residents[model]
        resident.running -= 1
        resident.last_used_at = self.clock()
        if well:
            resident.deaths = 0
        self.settle(resident)

    def settle(self, resident: Resident) -> None:
        """A request has left the model, waiting or running."""
        if resident.running == 0:
            resident.idle.set()
            resident.idle = asyncio.Event()
        if not resident.busy and self._queue:
            self.pump()

    # ---- orders

    def order_load(self, order: LoadOrder) -> Loading | None:
        """None when it is loaded already. Idempotent: a second order joins the first one's load.

        Raises Conflict when the order was decided on another revision, ModelNotFound.
        """
        resident = self.get(order.model)
        if resident.loading is not None:
            return resident.loading
        if resident.state == "ready":
            return None
        self._check_revision(order.revision)
        resident.deaths = resident.failures = 0
        for victim in order.evict:
            self._vacate(self.get(victim), force=False)
        return self._ask(Loading(order.model, self.clock(), devices=order.devices, evict=order.revision is None))

    async def order_unload(self, order: UnloadOrder) -> None:
        """Returns when the model is out of memory (at once with `wait` off). Unloading what isn't loaded succeeds."""
        resident = self.get(order.model)
        if resident.state in ("unloaded", "failed") and resident.loading is None:
            return
        self._check_revision(order.revision)
        if resident.loading is not None:
            self._abandon(resident.loading, Conflict(f"{order.model} was unloaded while it was loading"))
        gone = resident.gone
        self._vacate(resident, force=order.force)
        if order.wait and resident.worker is not None:
            await gone.wait()

    def _check_revision(self, revision: int | None) -> None:
        if revision is not None and revision != self.revision:
            raise Conflict(f"decided on revision {revision}, but this neuron is at {self.revision}; look again")

    # ---- room

    def occupants(self) -> list[Occupant]:
        return [self._occupant(resident) for resident in self.residents.values() if resident.bytes_by_device]

    def rooms(self) -> list[Room]:
        statuses = self.devices.read()
        foreign = {status.id: self.devices.foreign_bytes(status.id, self.ledger.held(status.id)) for status in statuses}
        return [Room(status.id, status.budget_bytes, foreign[status.id], status.healthy) for status in statuses]

    def pump(self) -> None:
        """Give every queued load its next step, oldest first."""
        now = self.clock()
        for loading in list(self._queue):
            resident = self.residents[loading.model]
            if resident.state == "ready" and not resident.closing:
                self._leave_queue(loading)
                resident.loading = None
                loading.succeed()
            elif resident.state not in ("unloading", "ready"):
                self._step(loading, resident, now)
            if loading in self._queue and now - loading.asked_at > self.config.eviction.starvation_s:
                break  # nobody younger takes the room that this one has waited for so long

    def _step(self, loading: Loading, resident: Resident, now: float) -> None:
        rooms, occupants = self.rooms(), self.occupants()
        try:
            context, decision = self._choose(loading, resident, rooms, occupants, now)
        except CortexError as error:
            self._abandon(loading, error)
            return
        match decision:
            case Place(bytes_by_device):
                self._leave_queue(loading)
                self._place(loading, resident, dict(bytes_by_device), context)
            case Evict(models):
                for model in models:
                    self.evict(model, f"room for {loading.model}")
            case Wait(models, until_s):
                self._wait(loading, models, until_s, now)
            case Refuse(reason):
                self._abandon(loading, NoRoom(reason))

    def _choose(
        self, loading: Loading, resident: Resident, rooms: Sequence[Room], occupants: Sequence[Occupant], now: float
    ) -> tuple[int, Place | Evict | Wait | Refuse]:
        """The largest context that fits as things are; failing that, the decision for the largest."""
        if resident.entry.header is None:
            raise ModelLoadFailed(resident.entry.problem or f"{loading.model} has not been downloaded")
        budgets = {room.device: room.budget_bytes for room in rooms}
        free = {room.device: room.budget_bytes - room.foreign_bytes - self.ledger.held(room.device) for room in rooms}
        first: tuple[int, Place | Evict | Wait | Refuse] | None = None
        for context in contexts(resident.entry):
            sets = device_sets(resident.entry, context, budgets, free, loading.devices)
            need = Need(loading.model, sets, loading.evict)
            decision = decide(need, rooms, occupants, now, self.config.eviction.min_residency_s)
            if isinstance(decision, Place):
                return context, decision
            if first is None or isinstance(first[1], Refuse):
                first = context, decision
        assert first is not None
        return first

    def _wait(self, loading: Loading, models: Sequence[str], until_s: float | None, now: float) -> None:
        loading.advance("waiting for room", 0.0, now)
        if now - loading.asked_at > self.config.eviction.starvation_s:
            for model in models:
                self.residents[model].closing = True
        if until_s is not None:
            self._pump_later(until_s - now)

    def _pump_later(self, delay_s: float) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = asyncio.get_running_loop().call_later(delay_s, self.pump)

    def _occupant(self, resident: Resident) -> Occupant:
        return Occupant(
            model=resident.entry.id,
            bytes_by_device=resident.bytes_by_device,
            busy=resident.busy or resident.state == "loading",
            leaving=resident.state == "unloading",
            pinned=resident.is_pinned,
            last_used_at=resident.last_used_at,
            loaded_at=resident.loaded_at,
        )

    # ---- loading

    def _ask(self, loading: Loading) -> Loading:
        if self._closed:
            raise Draining("this neuron is shutting down")
        resident = self.residents[loading.model]
        resident.loading = loading
        self._queue.append(loading)
        self.pump()
        return loading

    def _place(self, loading: Loading, resident: Resident, bytes_by_device: dict[str, int], context: int) -> None:
        resident.bytes_by_device = bytes_by_device
        resident.worker = self.pool.on(list(bytes_by_device))
        resident.error = None
        self.ledger.reserve(loading.model, bytes_by_device)
        self._become(resident, "loading")
        loading.started_at = self.clock()
        loading.advance("starting worker", 0.0, self.clock())
        self._spawn(self._load(loading, resident, resident.worker, context), f"load-{loading.model}")

    async def _load(self, loading: Loading, resident: Resident, worker: Worker, context: int) -> None:
        try:
            await worker.ensure_ready()
            if loading.done:
                return
            loading.advance("loading", 0.0, self.clock())
            names = ggml_names(worker.devices)
            worker.send(Load(spec_of(resident.entry, context, names, self.config)))
        except WorkerDied as error:
            if not loading.done:  # else its death has been dealt with
                self._load_failed(loading, ModelLoadFailed(f"{loading.model}: {error.message}"), worker)

    def _loaded(self, resident: Resident, notice: Loaded, worker: Worker) -> None:
        now = self.clock()
        resident.loaded, resident.load_seconds = notice, notice.seconds
        resident.loaded_at = resident.last_used_at = now
        resident.failures = 0
        worker.load_cycles += 1
        loading, resident.loading = resident.loading, None
        self._become(resident, "ready")
        extra = {"model": notice.model, "worker": worker.id, "seconds": notice.seconds, "note": notice.note}
        logger.info("model loaded", extra=extra)
        resident.canary_sent_at, resident.canaries_seen, resident.steps_seen = now, 0, 0
        with suppress(WorkerDied):  # its death is on its way to us
            worker.send(Canary(notice.model))
        if loading is not None:
            loading.succeed()
        self.pump()

    def _load_failed(self, loading: Loading, error: CortexError, worker: Worker) -> None:
        resident = self.residents[loading.model]
        self._remember(resident, error)
        self._release(resident)
        self._become(resident, "failed")
        logger.warning("load failed", extra={"model": loading.model, "reason": error.message})
        resident.loading = None
        loading.fail(error)
        self._retire_if_empty(worker)
        self.pump()

    def _abandon(self, loading: Loading, error: CortexError) -> None:
        """End a load that is still queued; one under way ends with its worker's answer."""
        if loading not in self._queue:
            return
        self._leave_queue(loading)
        resident = self.residents[loading.model]
        resident.loading = None
        loading.fail(error)

    def _remember(self, resident: Resident, error: CortexError) -> None:
        resident.failures += 1
        resident.error = error
        hopeless = resident.deaths >= MAX_DEATHS
        resident.failed_until = None if hopeless else self.clock() + min(_REMEMBER_S * 2 ** (resident.failures - 1), 60)

    def _raise_remembered(self, resident: Resident) -> None:
        until = resident.failed_until
        assert resident.error is not None
        if until is None:
            raise resident.error
        if self.clock() < until:
            retry_after = max(int(until - self.clock()), 1)
            raise type(resident.error)(resident.error.message, retry_after=retry_after)

    def _leave_queue(self, loading: Loading) -> None:
        self._queue.remove(loading)
        if not self._queue:
            for resident in self.residents.values():
                resident.closing = False

    # ---- unloading

    def evict(self, model: str, reason: str) -> None:
        """Unload an idle model that somebody's policy has chosen."""
        logger.info("evicting", extra={"model": model, "reason": reason})
        self._vacate(self.residents[model], force=False)

    def _vacate(self, resident: Resident, *, force: bool) -> None:
        """Start taking the model out of memory, after its running requests unless forced."""
        if resident.state != "ready":
            return
        self._become(resident, "unloading")
        resident.gone = asyncio.Event()
        self._spawn(self._unload(resident, force), f"unload-{resident.entry.id}")

    async def _unload(self, resident: Resident, force: bool) -> None:
        worker, gone = resident.worker, resident.gone
        assert worker is not None
        try:
            async with asyncio.timeout(0 if force else self.config.limits.drain_s):
                while resident.running:
                    await resident.idle.wait()
        except TimeoutError:
            logger.warning("unloading a busy model", extra={"model": resident.entry.id, "running": resident.running})
        try:
            worker.send(Unload(resident.entry.id))
            async with asyncio.timeout(_UNLOAD_S):
                await gone.wait()
        except WorkerDied:
            return  # its death releases the model
        except TimeoutError:
            worker.kill(f"did not unload {resident.entry.id} within {_UNLOAD_S:.0f} s")

    def _unloaded(self, resident: Resident, worker: Worker) -> None:
        self._release(resident)
        self._become(resident, "unloaded")
        logger.info("model unloaded", extra={"model": resident.entry.id, "worker": worker.id})
        self._retire_if_empty(worker)
        self.pump()

    def _release(self, resident: Resident) -> None:
        self.ledger.release(resident.entry.id)
        resident.vacate()

    def _retire_if_empty(self, worker: Worker) -> None:
        if not self._models_in(worker) and worker.state == "ready":
            self._spawn(self._retire(worker), f"retire-{worker.id}")

    async def _retire(self, worker: Worker) -> None:
        """An empty worker exits: its device context holds hundreds of MB. Not at once, a swap may follow."""
        await asyncio.sleep(self.config.neuron.empty_worker_s)
        if not self._models_in(worker):
            await worker.stop()

    def _models_in(self, worker: Worker) -> list[Resident]:
        return [resident for resident in self.residents.values() if resident.worker is worker]

    # ---- workers' words

    def on_notice(self, worker: Worker, notice: Notice) -> None:
        match notice:
            case Emissions():
                self.streams.feed(notice)
            case Heartbeat():
                self._on_heartbeat(worker, notice)
            case LoadProgress(model, fraction, stage):
                if loading := self._loading_in(worker, model):
                    loading.advance(stage, fraction, self.clock())
            case Loaded(model):
                if self._loading_in(worker, model):
                    self._loaded(self.residents[model], notice, worker)
            case LoadFailed(model, code, message):
                if loading := self._loading_in(worker, model):
                    self._load_failed(loading, _load_error(code, message), worker)
            case Unloaded(model):
                resident = self.residents.get(model)
                if resident is not None and resident.worker is worker:
                    self._unloaded(resident, worker)
            case ProbeReport(model):
                self._on_probe(worker, notice)

    def _loading_in(self, worker: Worker, model: str) -> Loading | None:
        resident = self.residents.get(model)
        if resident is None or resident.worker is not worker or resident.state != "loading":
            return None
        return resident.loading

    def _on_heartbeat(self, worker: Worker, notice: Heartbeat) -> None:
        for stats in notice.models:
            resident = self.residents.get(stats.model)
            if resident is None or resident.worker is not worker:
                continue
            resident.stats = stats
            if stats.canaries > resident.canaries_seen:
                resident.canary_sent_at = None
            if stats.canaries > resident.canaries_seen or stats.steps > resident.steps_seen:
                resident.servable, resident.proven_at = True, self.clock()
            resident.canaries_seen, resident.steps_seen = stats.canaries, stats.steps

    def _on_probe(self, worker: Worker, notice: ProbeReport) -> None:
        resident = self.residents.get(notice.model)
        if resident is not None and resident.worker is worker and resident.probe and not resident.probe.done():
            resident.probe.set_result(notice)

    def on_death(self, worker: Worker, reason: str) -> None:
        """Blame, fail or reload what lived there; requests hear of it through their streams."""
        models = self._models_in(worker)
        guilty = self._guilty(models)
        for resident in models:
            blamed = resident in guilty
            resident.deaths += blamed
            self._lost(resident, worker, reason)
        self.streams.lose(worker, reason)
        self.pump()

    @staticmethod
    def _guilty(models: list[Resident]) -> list[Resident]:
        """The model that was loading; else those that were decoding; else nobody can tell, so all."""
        loading = [resident for resident in models if resident.state == "loading"]
        return loading or [resident for resident in models if resident.running] or models

    def _lost(self, resident: Resident, worker: Worker, reason: str) -> None:
        state, loading = resident.state, resident.loading
        words = " | ".join(worker.log_tail[-3:])
        error = ModelLoadFailed(f"{resident.entry.id}: {reason}{'; its last words: ' if words else ''}{words}")
        self._release(resident)
        if state == "unloading":
            self._become(resident, "unloaded")
        elif state == "loading" and loading is not None:
            self._become(resident, "failed")
            resident.error, resident.loading = error, None
            resident.failed_until = None if resident.deaths >= MAX_DEATHS else self.clock()
            loading.fail(error)
        elif resident.deaths >= MAX_DEATHS:
            self._become(resident, "failed")
            resident.error, resident.failed_until = error, None
            logger.error("model given up", extra={"model": resident.entry.id, "deaths": resident.deaths})
        else:
            self._become(resident, "unloaded")
            if not self._closed and resident.loading is None:
                self._spawn_reload(resident.entry.id)

    def _spawn_reload(self, model: str) -> None:
        """After the loop that reports the death is through, so that all its models are judged first."""
        asyncio.get_running_loop().call_soon(self._reload, model)

    def _reload(self, model: str) -> None:
        resident = self.residents.get(model)
        if resident is not None and resident.state == "unloaded" and resident.loading is None and not self._closed:
            self._ask(Loading(model, self.clock()))

    # ---- the end

    async def close(self) -> None:
        """No more loads; every worker exits, asked first, killed if need be."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        for loading in list(self._queue):
            self._abandon(loading, Draining("this neuron is shutting down"))
        await self.pool.stop_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _become(self, resident: Resident, state: Any) -> None:
        resident.state = state
        self.revision += 1

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a task failed", exc_info=error, extra={"task": task.get_name()})


def _load_error(code: str, message: str) -> CortexError:
    error = from_code(code, message)
    return error if isinstance(error, ModelLoadFailed | NoRoom) else ModelLoadFailed(message)
