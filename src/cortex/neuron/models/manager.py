"""Which models are loaded in which workers: the only way to change it.

Requests (`ensure`, `begin`, `end`), orders and the catalogue arrive here, each as one step on the event loop; what
follows from them is done by `load_queue`, `loader` and `unloader`. Workers report to `notice_handler`.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from cortex.errors import Conflict, CortexError
from cortex.neuron.catalog.entry import Catalog
from cortex.neuron.models.card import card_of
from cortex.neuron.models.load_queue import LoadQueue
from cortex.neuron.models.notice_handler import NoticeHandler
from cortex.neuron.models.registry import ModelRegistry
from cortex.neuron.models.state import Loading, ManagedModel
from cortex.neuron.workers.pool import WorkerPool
from cortex.neuron.workers.process import Worker
from cortex.wire.status import LoadOrder, UnloadOrder

__all__ = ["ModelManager"]

logger = logging.getLogger(__name__)


class ModelManager:
    """For the event loop only. Sets `registry.pool`, and itself up as the pool's owner."""

    def __init__(self, registry: ModelRegistry, pool: WorkerPool) -> None:
        self.registry = registry
        self._queue = LoadQueue(registry)
        self._unloader = self._queue.loader.unloader
        pool.owner = NoticeHandler(registry, self._queue.loader, self._reload, self._queue.pump)
        registry.pool = pool

    # ---- the catalogue

    def apply_catalog(self, catalog: Catalog) -> None:
        """Take over a new scan. A loaded model keeps its entry until it is unloaded; a model that is no longer in the
        catalogue is dropped once it is neither loaded nor waited for."""
        models, changed = self.registry.models, False
        for model, entry in catalog.entries.items():
            managed = models.get(model)
            if managed is None:
                managed = models[model] = ManagedModel(entry, card_of(entry))
            elif managed.state in ("unloaded", "failed") and managed.entry != entry:
                managed.entry, managed.state, managed.error = entry, "unloaded", None
                managed.failures = managed.deaths = 0
                managed.min_bytes.clear()
            else:
                managed.next_entry = entry if managed.entry != entry else None
                continue
            changed = True
            self.registry.update_card(managed)
        for model in [name for name in models if name not in catalog.entries]:
            if models[model].state in ("unloaded", "failed") and not models[model].busy:
                del models[model]
                changed = True
        self.registry.revision += changed
        self.registry.changes.tell()

    # ---- requests

    def ensure(self, model: str) -> Loading | None:
        """None when `model` can take a request now, else the load to wait for, started if need be.

        Raises ModelNotFound, and the error of a failed load until that may be tried again.
        """
        managed = self.registry.get(model)
        if managed.state == "ready" and not managed.closed:
            return None
        if managed.loading is None and managed.state == "failed":
            self._raise_recent_error(managed)
        return managed.loading or self._queue.ask(Loading(model, self.registry.clock()))

    def begin(self, model: str) -> Worker:
        """Count a request as running, and return the worker to send it to. Call in the same step as the `ensure` that
        returned None."""
        managed = self.registry.get(model)
        assert managed.worker is not None
        managed.running += 1
        managed.last_used_at = self.registry.clock()
        return managed.worker

    def end(self, model: str, *, succeeded: bool) -> None:
        """A running request has ended; `succeeded` when the model did its part, whatever the client got of it."""
        managed = self.registry.models[model]
        managed.running -= 1
        managed.last_used_at = self.registry.clock()
        if succeeded:
            managed.deaths = 0
        self.request_left(managed)

    def request_left(self, managed: ManagedModel) -> None:
        """A request no longer waits for the model, or no longer runs on it: wake tasks that wait for it to be idle."""
        if managed.running == 0:
            managed.idle.set()
            managed.idle = asyncio.Event()
            self._queue.pump()

    def _raise_recent_error(self, managed: ManagedModel) -> None:
        until, now = managed.failed_until, self.registry.clock()
        assert managed.error is not None
        if until is None:
            raise managed.error
        if now < until:
            raise type(managed.error)(managed.error.message, retry_after=max(int(until - now), 1))

    # ---- orders

    def order_load(self, order: LoadOrder) -> Loading | None:
        """None when the model is loaded already. Idempotent: a second order joins the first one's load.

        Raises Conflict when the order was decided on another revision, ModelNotFound, and for an automatic order the
        error of a model that was given up: each try may cost the worker's other models their requests.
        """
        managed = self.registry.get(order.model)
        if managed.loading is not None:
            return managed.loading
        if managed.state == "ready":
            return None
        self._check_revision(order.revision)
        if order.automatic and managed.state == "failed" and managed.failed_until is None and managed.error is not None:
            raise managed.error
        managed.deaths = managed.deaths if order.automatic else 0
        managed.failures = 0
        managed.min_bytes.clear()
        for victim in order.evict:
            self._unloader.start_unload(self.registry.get(victim), force=False)
        by_gateway = order.revision is not None
        return self._queue.ask(Loading(order.model, self.registry.clock(), devices=order.devices, evict=not by_gateway))

    async def order_unload(self, order: UnloadOrder) -> None:
        """Returns when the model is unloaded (at once with `wait` off). Unloading what isn't loaded succeeds.

        Raises Conflict when the order was decided on another revision, ModelNotFound.
        """
        managed = self.registry.get(order.model)
        if managed.state in ("unloaded", "failed") and managed.loading is None:
            return
        self._check_revision(order.revision)
        if (loading := managed.loading) is not None:
            self._queue.abandon(loading, Conflict(f"{order.model} was unloaded before it was loaded"))
        if loading is None or loading.done:
            self._unloader.start_unload(managed, force=order.force)
        elif order.wait:
            await self._unload_after(loading, managed, order.force)
        else:
            self.registry.spawn(self._unload_after(loading, managed, order.force), f"unload-{order.model}")
        if order.wait and managed.state == "unloading":
            await managed.unloaded.wait()

    async def _unload_after(self, loading: Loading, managed: ManagedModel, force: bool) -> None:
        """Wait for a load that is under way, which llama.cpp can't stop, and unload the model then."""
        with suppress(CortexError):
            await loading.wait()
        self._unloader.start_unload(managed, force=force)

    def _check_revision(self, revision: int | None) -> None:
        if revision is not None and revision != self.registry.revision:
            raise Conflict(f"decided on revision {revision}, this neuron is at {self.registry.revision}")

    def expire(self, model: str) -> None:
        """Unload a model whose time to live has passed."""
        self._unloader.evict(model, "idle")

    def recycle(self, worker: Worker) -> None:
        """Restart an idle worker and load its models again. Does nothing while any of them is busy."""
        models = self.registry.models_in(worker)
        if any(managed.busy or managed.state != "ready" for managed in models):
            return
        logger.info("recycling worker", extra={"worker": worker.id, "unloads": worker.unloads})
        for managed in models:
            self._unloader.start_unload(managed, force=False)
        self.registry.spawn(self._recycle(worker, models), f"recycle-{worker.id}")

    async def _recycle(self, worker: Worker, models: list[ManagedModel]) -> None:
        for managed in models:
            await managed.unloaded.wait()
        worker.unloads = (
            0  # its own don't count: where the worker can't be stopped, that is tried again after as many more
        )
        if not self.registry.models_in(worker):  # else one was loaded while another was being unloaded
            await worker.stop()
        for managed in models:
            self._reload(managed.entry.id)

    def _reload(self, model: str) -> None:
        """Queue a load of a model that was unloaded without anybody's order, unless that has changed meanwhile."""
        managed = self.registry.models.get(model)
        if managed and managed.state == "unloaded" and managed.loading is None and not self.registry.closed:
            self._queue.ask(Loading(model, self.registry.clock()))

    # ---- shutdown

    async def close(self) -> None:
        """Accept no more loads, cancel those under way, and stop every worker."""
        self.registry.closed = True
        self._queue.close()
        for task in list(self.registry.tasks):
            task.cancel()
        await asyncio.gather(*self.registry.tasks, return_exceptions=True)
        await self.registry.pool.stop_all()
