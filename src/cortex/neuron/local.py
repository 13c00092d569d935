"""The neuron's own backend: a request waits for its model, goes to the model's worker, and comes back as events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from cortex.errors import BadRequest, CortexError, DeadlineExceeded, Overloaded, WorkerDied
from cortex.neuron.report import model_status
from cortex.neuron.residency import Residency
from cortex.neuron.resident import Loading
from cortex.neuron.streams import LostWorker, Stream
from cortex.neuron.supervisor import Worker
from cortex.wire.events import Event, Failed, Finished, Progress, Started, failed
from cortex.wire.inference import Request
from cortex.wire.status import ModelStatus
from cortex.wire.worker import Cancel, Submit

__all__ = ["LocalBackend"]

_MAX_REQUESTS = 512
"""Of one model, running and waiting: beyond it nobody would get an answer in time anyway."""
_TRIES = 3
"""Workers that may die under a request that has emitted nothing: three deaths are no coincidence."""


class LocalBackend:
    """`serving.backend.Backend` over this neuron's workers."""

    def __init__(self, residency: Residency, name: str, *, default_model: str | None = None) -> None:
        self._residency = residency
        self._name = name
        self._default = default_model
        self.draining = False

    async def infer(self, request: Request) -> AsyncGenerator[Sequence[Event], None]:
        run = _Run(request, self._residency, asyncio.get_running_loop().time())
        try:
            async with aclosing(run.events()) as events:  # a bare `async for` would leave the cancel to the GC
                async for batch in events:
                    yield batch
        except CortexError as error:
            yield [failed(error)]

    def models(self) -> list[tuple[ModelStatus, list[str]]]:
        statuses = [
            model_status(resident, self._residency.holdings) for resident in self._residency.holdings.residents.values()
        ]
        return [(status, [self._name] if status.state == "ready" else []) for status in statuses]

    def resolve(self, name: str) -> str:
        if not name:
            if self._default is None:
                raise BadRequest("no model was named and this server has no default model", param="model")
            name = self._default
        if name in self._residency.holdings.residents:
            return name
        for model, resident in self._residency.holdings.residents.items():
            if name in resident.entry.aliases:
                return model
        return self._residency.holdings.get(name).entry.id  # raises ModelNotFound with the ids there are

    def ready(self) -> bool:
        return not self.draining


@dataclass(slots=True)
class _Run:
    """One request's way through the neuron."""

    request: Request
    residency: Residency
    arrived_at: float
    started: bool = False
    emitted: bool = False

    async def events(self) -> AsyncGenerator[Sequence[Event], None]:
        """Tries again with a fresh worker while nothing has been emitted, up to _TRIES deaths."""
        for attempt in range(1, _TRIES + 1):
            lost: LostWorker | None = None
            async with aclosing(self._attempt()) as items:
                async for item in items:
                    if isinstance(item, LostWorker):
                        lost = item
                    elif fresh := self._fresh(item):
                        yield fresh
            if lost is None:
                return
            if self.emitted or attempt == _TRIES:
                raise WorkerDied(f"{lost.reason}; the answer is lost, ask again", retry_after=1)

    async def _attempt(self) -> AsyncGenerator[Sequence[Event] | LostWorker, None]:
        """Counted as waiting until it is counted as running: the model isn't evicted in between."""
        resident = self.residency.holdings.get(self.request.model)
        if resident.waiting + resident.running >= _MAX_REQUESTS:
            raise Overloaded(f"{self.request.model} has {_MAX_REQUESTS} requests already", retry_after=5)
        resident.waiting += 1
        try:
            while loading := self.residency.ensure(self.request.model):
                async with aclosing(self._watch(loading)) as progress:
                    async for events in progress:
                        yield events
                if loading.error is not None:
                    raise loading.error
            worker = self.residency.begin(self.request.model)
        finally:
            resident.waiting -= 1
            self.residency.settle(resident)
        async with aclosing(self._served(worker)) as items:
            async for item in items:
                yield item

    async def _watch(self, loading: Loading) -> AsyncGenerator[Sequence[Event], None]:
        try:
            async with asyncio.timeout_at(self._deadline()):
                async for _ in loading.changes():
                    eta_s = loading.eta_s(self.residency.holdings.clock())
                    yield [Progress("loading", int(loading.progress * 1000), 1000, eta_s, loading.stage)]
        except TimeoutError:
            raise DeadlineExceeded(f"{self.request.model} was not loaded within the request's deadline") from None

    def _deadline(self) -> float | None:
        return self.arrived_at + self.request.deadline_s if self.request.deadline_s else None

    async def _served(self, worker: Worker) -> AsyncGenerator[Sequence[Event] | LostWorker, None]:
        stream = Stream(self.request, worker, self.arrived_at)
        self.residency.holdings.streams.open(stream)
        over = well = False
        try:
            worker.send(Submit(self.request, asyncio.get_running_loop().time() - self.arrived_at))
            while not over:
                item = await stream.queue.get()
                over = isinstance(item, LostWorker) or isinstance(item[-1], Finished | Failed)
                well = not isinstance(item, LostWorker) and isinstance(item[-1], Finished)
                yield item
        except WorkerDied as error:
            yield LostWorker(error.message)
        finally:
            self.residency.holdings.streams.close(self.request.id)
            if not over:
                with suppress(WorkerDied):
                    worker.send(Cancel(self.request.id))
            self.residency.end(self.request.model, well=well)

    def _fresh(self, events: Sequence[Event]) -> Sequence[Event]:
        """`events` without a second Started: the client of a retried request has seen the first."""
        fresh = [event for event in events if not (self.started and isinstance(event, Started))]
        self.started = self.started or any(isinstance(event, Started) for event in events)
        self.emitted = self.emitted or any(not isinstance(event, Started | Progress) for event in events)
        return fresh
