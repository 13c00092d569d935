"""One client request from its parsed call to the last byte of the answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from litestar.types import Receive, Scope, Send
from msgspec import structs

from cortex.config.settings import Config
from cortex.dialects.base import Call, ErrorEncoder
from cortex.errors import CortexError, DeadlineExceeded, Draining, InternalError
from cortex.serving.exchange.answers import Answer, BeforeEnd, StreamAnswer, WholeAnswer
from cortex.serving.exchange.backend import Backend
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.exchange.tap import AnswerTap
from cortex.serving.exchange.timeouts import Due, Pacing
from cortex.serving.http.errors import ErrorReply, as_cortex_error
from cortex.serving.http.request_id import RequestId
from cortex.serving.telemetry.records import Observer, RequestMeter
from cortex.wire.events import Event, Failed, Finished, Progress, Started, failed
from cortex.wire.inference import InferenceRequest, Request

__all__ = ["Exchange", "Service"]

logger = logging.getLogger(__name__)

_CLEANUP_S = 5.0
"""How long a cancel may take to get under way, and a dying client to take its last frame."""

_CLIENT_GONE = 499
_WAITING = (Progress, Started)


@dataclass(frozen=True, slots=True)
class Service:
    """What every exchange works with; made once per application."""

    backend: Backend
    config: Config
    lifecycle: Lifecycle
    observers: Sequence[Observer] = ()
    clock: Callable[[], float] = time.monotonic


class Exchange:
    """An ASGI application that answers one request.

    A relay task moves events from the backend to the client with nothing else in its way. Beside it the request's own
    task waits for whichever comes first: the relay's end, the client's disappearance, or a time at which Pacing
    wants something done. Whatever ends it, the backend's iterators are closed, which cancels what still runs.
    """

    def __init__(
        self,
        service: Service,
        call: Call,
        identity: RequestId,
        *,
        dialect: str,
        encode_error: ErrorEncoder,
        before_end: BeforeEnd | None = None,
    ) -> None:
        """`before_end` runs when the answer's last bytes are made, before they are sent."""
        self._service = service
        self._call = call if call.stream else _unstreamed(call)
        self._identity = identity
        self._encode_error = encode_error
        self._before_end = before_end or _nothing
        self._pacing = Pacing.begin(service.config.limits, service.clock(), call.stream, call.keepalive_s)
        self._meters = [
            RequestMeter(request.id, dialect, request.model, request.principal, service.clock)
            for request in call.requests
        ]
        self._status = _CLIENT_GONE
        self._ended: set[int] = set()
        self._relaying: asyncio.Task[None] | None = None
        self._answered: asyncio.Task[None] | None = None  # the relay, once its outcome was told to the client
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        answer = self._answer(send)
        with self._service.lifecycle.running(self._abort):
            relay = self._relaying = self._spawn(self._relay(answer))
            gone = self._spawn(_disconnected(receive))
            try:
                error = await self._supervise(answer, relay, gone)
                if error is not None:
                    await self._fail(answer, relay, error)
            finally:
                await self._stop()
                self._tell_observers()

    def _answer(self, send: Send) -> Answer:
        headers, parts = self._identity.headers(), len(self._call.requests)
        if self._call.stream:
            return StreamAnswer(send, self._call.renderer(), headers, parts, self._before_end)
        return WholeAnswer(send, self._call.collector(), headers, parts, self._before_end)

    async def _supervise(
        self, answer: Answer, relay: asyncio.Task[None], gone: asyncio.Task[None]
    ) -> CortexError | None:
        """Waits until the exchange is over. The error that the client still has to be told, if any."""
        pacing, clock = self._pacing, self._service.clock
        while True:
            now = clock()
            wait_s = max(0.0, pacing.next_at(now) - now)
            await asyncio.wait({relay, gone}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if relay.done():
                return self._outcome(relay)
            if gone.done():
                logger.debug("client went away", extra={"request_id": self._identity.id})
                return None
            match pacing.due(clock()):
                case Due.OPEN | Due.KEEPALIVE:
                    pacing.on_write(clock())
                    self._spawn(answer.beat())
                case Due.STALLED:
                    limit = self._service.config.limits.stall_s
                    return DeadlineExceeded(f"the answer stopped: nothing came for {limit:g} s")
                case Due.DEADLINE:
                    limit = self._service.config.limits.request_s
                    return DeadlineExceeded(f"the request took longer than the {limit:g} s it may")
                case Due.NOTHING:
                    pass

    def _outcome(self, relay: asyncio.Task[None]) -> CortexError | None:
        self._answered = relay
        if relay.cancelled():
            if self._service.lifecycle.draining:
                return Draining("the server is shutting down and had to end this request", retry_after=1)
            return InternalError("the request was interrupted")
        if exception := relay.exception():
            return as_cortex_error(exception)
        self._status = 200
        return None

    async def _relay(self, answer: Answer) -> None:
        """Every request of the call to its end. Raises what the first failing one failed with."""
        requests = self._call.requests
        if len(requests) == 1:
            await self._relay_one(answer, 0, requests[0])
            return
        try:
            async with asyncio.TaskGroup() as group:
                for part, request in enumerate(requests):
                    group.create_task(self._relay_one(answer, part, request))
        except* Exception as errors:  # noqa: BLE001 - re-raised: the first failure is the answer's
            raise errors.exceptions[0] from None

    async def _relay_one(self, answer: Answer, part: int, request: Request) -> None:
        tap = AnswerTap(answer, partial(self._pass_on, answer, part), self._go_on)
        async with aclosing(self._service.backend.infer(request, tap)) as stream:
            async for events in stream:
                last = events[-1]
                if type(last) is Failed:
                    self._meters[part].feed(events)
                    self._ended.add(part)
                    if len(events) > 1:
                        await answer.feed(part, events[:-1])
                    raise last.to_error()
                await self._pass_on(answer, part, events)
                if type(last) is Finished:
                    self._ended.add(part)
                    return
        raise InternalError("the request ended without a result")

    async def _pass_on(self, answer: Answer, part: int, events: Sequence[Event]) -> None:
        self._meters[part].feed(events)
        await answer.feed(part, events)
        now = self._service.clock()
        if answer.is_open:
            self._pacing.on_write(now)
        self._pacing.on_events(now, generated=not _only_waiting(events))

    async def _fail(self, answer: Answer, relay: asyncio.Task[None], error: CortexError) -> None:
        relay.cancel()
        self._status = 200 if answer.is_open else error.status
        for part, meter in enumerate(self._meters):
            if part not in self._ended:
                meter.feed([failed(error)])
        reply = ErrorReply.of(error, self._encode_error, self._identity.echo)
        await asyncio.wait({relay}, timeout=_CLEANUP_S)
        try:
            async with asyncio.timeout(_CLEANUP_S):
                await answer.fail(reply, error)
        except TimeoutError:
            logger.info("client takes no data, connection dropped", extra={"request_id": self._identity.id})

    def _abort(self) -> None:
        """The drain's time is up."""
        if self._relaying is not None:
            self._relaying.cancel()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        return task

    def _go_on(self, rest: Coroutine[None, None, None]) -> None:
        """A tapped batch has to wait for the client. That it fails is the end of the answer."""

        def on_end(task: asyncio.Task[None]) -> None:
            if task.cancelled():
                return
            if task.exception() is None:
                self._tasks.discard(task)
            else:
                self._abort()

        self._spawn(rest).add_done_callback(on_end)

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        done, late = await asyncio.wait(self._tasks, timeout=_CLEANUP_S)
        for task in done - {self._answered}:
            exception = None if task.cancelled() else task.exception()
            if exception is not None and not isinstance(exception, CortexError):
                logger.error("ending a request failed", exc_info=exception)
        if late:
            logger.error("cancelling takes too long", extra={"request_id": self._identity.id})

    def _tell_observers(self) -> None:
        for meter in self._meters:
            record = meter.finish(self._status)
            for observer in self._service.observers:
                observer(record)


async def _nothing() -> None:
    pass


def _unstreamed(call: Call) -> Call:
    """The backend is told that this client sees nothing before the end."""
    requests: list[Request] = [
        structs.replace(request, streamed=False) if isinstance(request, InferenceRequest) else request
        for request in call.requests
    ]
    return replace(call, requests=requests)


def _only_waiting(events: Sequence[Event]) -> bool:
    return type(events[-1]) in _WAITING and all(type(event) in _WAITING for event in events)


async def _disconnected(receive: Receive) -> None:
    """Returns when the client is gone. The body has been read by then, so nothing else can come."""
    while (await receive())["type"] != "http.disconnect":
        pass
