"""The neuron's own backend: a request waits for its model, goes to the model's worker, and comes back as events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cortex.errors import BadRequest, CortexError, DeadlineExceeded, Overloaded, PayloadTooLarge, WorkerDied
from cortex.neuron.api.report import model_status
from cortex.neuron.models.manager import ModelManager
from cortex.neuron.models.state import Loading
from cortex.neuron.workers.active_requests import ActiveRequest, LostWorker, Relay, events_of
from cortex.neuron.workers.process import Worker
from cortex.serving.exchange.backend import Emit
from cortex.wire.events import Event, Failed, Finished, Progress, Started, failed
from cortex.wire.framing import FrameTooLarge
from cortex.wire.inference import Request
from cortex.wire.status import ModelStatus
from cortex.wire.worker import Cancel, Emission, RelayedEmission, Submit

__all__ = ["LocalBackend"]

_MAX_REQUESTS = 512
"""Requests of one model, running and waiting; more could not be answered in time anyway."""
_TRIES = 3
"""How many workers may die while they run a client's request that has emitted nothing, before it fails."""
_DEATH_S = 10.0
"""How long the system may take to report the end of a killed process, seconds."""


class LocalBackend:
    """`serving.backend.Backend` over this neuron's workers."""

    def __init__(self, manager: ModelManager, name: str, *, default_model: str | None = None) -> None:
        self._manager = manager
        self._name = name
        self._default = default_model

    def configure(self, default_model: str | None) -> None:
        """Replace the model of requests that name none."""
        self._default = default_model

    async def serve(self, request: Request, emit: Emit) -> None:
        def decode(item: Emission | RelayedEmission, events: Sequence[Event] | None) -> None:
            emit(events_of(item) if events is None else events)

        await self._run(request, decode, _TRIES)

    async def relay(self, request: Request, emit: Relay) -> None:
        """`serve` for a gateway, which passes the worker's bytes on, and tries again itself when the worker dies: else
        a request that crashes its worker would crash as many workers on each of several neurons."""
        await self._run(request, emit, 1)

    async def _run(self, request: Request, emit: Relay, tries: int) -> None:
        try:
            await _LocalRequest(request, self._manager, asyncio.get_running_loop().time(), emit, tries).serve()
        except CortexError as error:
            events: list[Event] = [failed(error)]
            emit(Emission(request.id, events), events)

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
        return True


@dataclass(slots=True)
class _LocalRequest:
    """One request's way through the neuron."""

    request: Request
    manager: ModelManager
    arrived_at: float
    emit: Relay
    tries: int
    started: bool = False
    emitted: bool = False

    async def serve(self) -> None:
        """Tries again with a fresh worker while nothing has been emitted, up to `tries` deaths."""
        for attempt in range(1, self.tries + 1):
            end = await self._attempt()
            if not isinstance(end, LostWorker):
                return
            if self.emitted or attempt == self.tries:
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
                    progress = Progress("loading", int(loading.progress * 1000), 1000, eta_s, loading.stage)
                    self.emit(Emission(self.request.id, [progress]), [progress])
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
        except FrameTooLarge as error:
            raise PayloadTooLarge(f"the request is too large for the worker: {error}") from error
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

    def _emit_fresh(self, item: Emission | RelayedEmission, events: Sequence[Event] | None) -> None:
        """Without a second Started: the client of a retried request has seen the first."""
        if events is None:
            self.emitted = True
        elif not self.emitted:
            if self.started and any(isinstance(event, Started) for event in events):
                events = [event for event in events if not isinstance(event, Started)]
                item = Emission(self.request.id, events)
            self.started = self.started or any(isinstance(event, Started) for event in events)
            self.emitted = any(not isinstance(event, Started | Progress) for event in events)
            if not events:
                return
        self.emit(item, events)
