"""The neuron's own backend: a request waits for its model, goes to the model's worker, and comes back as events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from cortex.errors import BadRequest, CortexError, DeadlineExceeded, Overloaded, WorkerDied
from cortex.neuron.api.batch_queue import Outbox
from cortex.neuron.api.report import model_status
from cortex.neuron.models.manager import ModelManager
from cortex.neuron.models.state import Loading
from cortex.neuron.workers.active_requests import ActiveRequest, Emit, LostWorker
from cortex.neuron.workers.process import Worker
from cortex.serving.exchange.backend import Tap
from cortex.wire.events import Event, Failed, Finished, Progress, Started, failed
from cortex.wire.inference import Request
from cortex.wire.status import ModelStatus
from cortex.wire.worker import Cancel, Submit

__all__ = ["LocalBackend"]

_MAX_REQUESTS = 512
"""Of one model, running and waiting: beyond it nobody would get an answer in time anyway."""
_TRIES = 3
"""Workers that may die under a request that has emitted nothing: three deaths are no coincidence."""
_DEATH_S = 10.0
"""For the system to report the end of a process that was killed."""


class LocalBackend:
    """`serving.backend.Backend` over this neuron's workers."""

    def __init__(self, manager: ModelManager, name: str, *, default_model: str | None = None) -> None:
        self._manager = manager
        self._name = name
        self._default = default_model
        self.draining = False

    async def infer(
        self,
        request: Request,
        tap: Tap | None = None,  # noqa: ARG002 - yields everything
    ) -> AsyncGenerator[Sequence[Event], None]:
        outbox: Outbox[Sequence[Event]] = Outbox()
        serving = asyncio.create_task(self.serve(request, outbox.put))
        serving.add_done_callback(lambda _: outbox.close())
        try:
            async with aclosing(outbox.batches()) as batches:
                async for batch in batches:
                    for events in batch:
                        yield events
            await serving
        finally:
            serving.cancel()
            await asyncio.wait({serving})

    async def serve(self, request: Request, emit: Emit) -> None:
        """`infer` for a caller that takes each batch at once, on the stack of the reader that decoded it: a token then
        wakes no task. Returns behind the last event; cancelling it cancels the request."""
        try:
            await _Run(request, self._manager, asyncio.get_running_loop().time(), emit).serve()
        except CortexError as error:
            emit([failed(error)])

    def models(self) -> list[tuple[ModelStatus, list[str]]]:
        statuses = [model_status(managed, self._manager.registry) for managed in self._manager.registry.models.values()]
        return [(status, [self._name] if status.state == "ready" else []) for status in statuses]

    def resolve(self, name: str) -> str:
        if not name:
            if self._default is None:
                raise BadRequest("no model was named and this server has no default model", param="model")
            name = self._default
        if name in self._manager.registry.models:
            return name
        for model, managed in self._manager.registry.models.items():
            if name in managed.entry.aliases:
                return model
        return self._manager.registry.get(name).entry.id  # raises ModelNotFound with the ids there are

    def ready(self) -> bool:
        return not self.draining


@dataclass(slots=True)
class _Run:
    """One request's way through the neuron."""

    request: Request
    manager: ModelManager
    arrived_at: float
    emit: Emit
    started: bool = False
    emitted: bool = False

    async def serve(self) -> None:
        """Tries again with a fresh worker while nothing has been emitted, up to _TRIES deaths."""
        for attempt in range(1, _TRIES + 1):
            end = await self._attempt()
            if not isinstance(end, LostWorker):
                return
            if self.emitted or attempt == _TRIES:
                raise WorkerDied(f"{end.reason}; the answer is lost, ask again", retry_after=1)

    async def _attempt(self) -> Finished | Failed | LostWorker:
        """Counted as waiting until it is counted as running: the model isn't evicted in between."""
        managed = self.manager.registry.get(self.request.model)
        if managed.waiting + managed.running >= _MAX_REQUESTS:
            raise Overloaded(f"{self.request.model} has {_MAX_REQUESTS} requests already", retry_after=5)
        managed.waiting += 1
        try:
            while loading := self.manager.ensure(self.request.model):
                await self._watch(loading)
                if loading.error is not None:
                    raise loading.error
            worker = self.manager.begin(self.request.model)
        finally:
            managed.waiting -= 1
            self.manager.request_left(managed)
        return await self._served(worker)

    async def _watch(self, loading: Loading) -> None:
        try:
            async with asyncio.timeout_at(self._deadline()):
                async for _ in loading.changes():
                    eta_s = loading.eta_s(self.manager.registry.clock())
                    self.emit([Progress("loading", int(loading.progress * 1000), 1000, eta_s, loading.stage)])
        except TimeoutError:
            raise DeadlineExceeded(f"{self.request.model} was not loaded within the request's deadline") from None

    def _deadline(self) -> float | None:
        return self.arrived_at + self.request.deadline_s if self.request.deadline_s else None

    async def _served(self, worker: Worker) -> Finished | Failed | LostWorker:
        stream = ActiveRequest(self.request, worker, self.arrived_at, self._emit_fresh)
        self.manager.registry.active_requests.add(stream)
        try:
            worker.send(Submit(self.request, asyncio.get_running_loop().time() - self.arrived_at))
            return await stream.ended
        except WorkerDied as error:
            # Its end is seen later than that of its link: tried again at once, the model would still look ready there.
            worker.kill(error.message)
            await asyncio.wait([stream.ended], timeout=_DEATH_S)
            stream.lose(error.message)
            return stream.ended.result()
        finally:
            self.manager.registry.active_requests.remove(self.request.id)
            ended = stream.ended.done() and not stream.ended.cancelled()
            if not ended:
                with suppress(WorkerDied):
                    worker.send(Cancel(self.request.id))
            self.manager.end(self.request.model, succeeded=ended and isinstance(stream.ended.result(), Finished))

    def _emit_fresh(self, events: Sequence[Event]) -> None:
        """`events` without a second Started: the client of a retried request has seen the first."""
        if not self.emitted:
            if self.started:
                events = [event for event in events if not isinstance(event, Started)]
            self.started = self.started or any(isinstance(event, Started) for event in events)
            self.emitted = any(not isinstance(event, Started | Progress) for event in events)
        if events:
            self.emit(events)
