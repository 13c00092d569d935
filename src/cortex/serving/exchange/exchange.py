"""One client request from its parsed call to the last byte of the answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from litestar.types import Receive, Scope, Send
from msgspec import structs

from cortex.config.settings import Config
from cortex.dialects.base import Call, ErrorEncoder
from cortex.errors import CortexError, DeadlineExceeded, Draining, InternalError
from cortex.serving.exchange.answers import Answer, StreamAnswer, WholeAnswer
from cortex.serving.exchange.backend import Backend
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.exchange.response_writer import ClientTooSlow, ResponseWriter
from cortex.serving.exchange.timeouts import Due, Pacing
from cortex.serving.http.errors import ErrorReply, as_cortex_error
from cortex.serving.http.request_id import RequestId
from cortex.serving.telemetry.records import Observer, RequestMeter
from cortex.wire.events import Event, Failed, Finished, Progress, Started, failed
from cortex.wire.inference import InferenceRequest, Request

__all__ = ["BeforeEnd", "Exchange", "ExchangeContext", "disconnected"]

logger = logging.getLogger(__name__)

_CLEANUP_S = 5.0
"""How long a cancel may take to get under way, and a slow client to take an error's last frame."""

_CLIENT_GONE = 499
_WAITING = (Progress, Started)

BeforeEnd = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ExchangeContext:
    """What every exchange works with; made once per application. `read_config` gives the config in force."""

    backend: Backend
    read_config: Callable[[], Config]
    lifecycle: Lifecycle
    observers: Sequence[Observer] = ()
    clock: Callable[[], float] = time.monotonic

    @property
    def config(self) -> Config:
        """The config in force: a reload replaces it whole."""
        return self.read_config()


class _ClientGone(Exception):
    """The client closed its connection."""


class Exchange:
    """An ASGI application that answers one request.

    Each request of the call is served by a task of its own, which sleeps while events come: the backend emits them on
    the stack of whoever has them, and from there they are rendered and written. The exchange's own task waits for
    whichever comes first: an end, the client's disappearance, or a time at which Pacing wants something done. Whatever
    ends it, the serving tasks are cancelled, which cancels what still runs.
    """

    def __init__(
        self,
        context: ExchangeContext,
        call: Call,
        identity: RequestId,
        *,
        dialect: str,
        encode_error: ErrorEncoder,
        before_end: BeforeEnd | None = None,
    ) -> None:
        """`before_end` runs when the answer's last bytes are made, before they are sent."""
        self._context = context
        self._call = call if call.stream else _unstreamed(call)
        self._identity = identity
        self._encode_error = encode_error
        self._before_end = before_end
        self._pacing = Pacing.begin(context.config.limits, context.clock(), call.stream, call.keepalive_s)
        self._meters = [
            RequestMeter(request.id, dialect, request.model, request.principal, context.clock)
            for request in call.requests
        ]
        self._status = _CLIENT_GONE
        self._ended: set[int] = set()
        self._failure: CortexError | None = None
        self._closed = False
        self._aborted = False
        self._serving: list[asyncio.Task[None]] = []
        self._answered: set[asyncio.Task[None]] = set()  # whose failure is the answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = self._writer = ResponseWriter(scope, send, on_failure=self._cancel_serving)
        answer = self._answer = self._make_answer(writer)
        loop = asyncio.get_running_loop()
        with self._context.lifecycle.running(self._abort):
            self._serving = [
                loop.create_task(self._serve(part, request)) for part, request in enumerate(self._call.requests)
            ]
            gone = loop.create_task(disconnected(receive))
            try:
                await self._wait_for_end(gone)
                await self._finish(gone)
            except _ClientGone:
                logger.debug("client went away", extra={"request_id": self._identity.id})
            except ClientTooSlow as slow:
                await self._drop_client(gone, str(slow))
            except Exception as exception:  # noqa: BLE001 - the border: whatever it is, the client is told
                await self._fail(answer, gone, as_cortex_error(exception))
            finally:
                self._closed = True
                await self._stop(gone)
                self._notify_observers()

    def _make_answer(self, writer: ResponseWriter) -> Answer:
        headers, parts = self._identity.headers(), len(self._call.requests)
        if self._call.stream:
            return StreamAnswer(writer, self._call.renderer(), headers, parts)
        return WholeAnswer(writer, self._call.collector(), headers, parts)

    # ---- events, on the stack of whoever has them

    async def _serve(self, part: int, request: Request) -> None:
        await self._context.backend.serve(request, partial(self._emit, part))
        if part not in self._ended:
            raise InternalError("the request ended without a result")

    def _emit(self, part: int, events: Sequence[Event]) -> None:
        if self._closed or part in self._ended:
            return
        try:
            self._pass_on(part, events)
        except Exception as error:  # noqa: BLE001 - rendering failed: this answer's end, nobody else's on this stack
            self._failure = self._failure or as_cortex_error(error)
            self._cancel_serving()

    def _pass_on(self, part: int, events: Sequence[Event]) -> None:
        self._meters[part].feed(events)
        last = events[-1]
        if type(last) is Failed:
            self._ended.add(part)
            self._failure = self._failure or last.to_error()
            if len(events) == 1:
                return
            events = events[:-1]
        elif type(last) is Finished:
            self._ended.add(part)
        self._answer.feed(part, events)
        now = self._context.clock()
        if self._answer.is_open:
            self._pacing.on_write(now)
        self._pacing.on_events(now, generated=not _only_waiting(events))

    # ---- the exchange's own task

    async def _wait_for_end(self, gone: asyncio.Task[None]) -> None:
        """Returns when every request has finished. Raises what the first failing one failed with, _ClientGone,
        ClientTooSlow, DeadlineExceeded."""
        pacing, clock, running = self._pacing, self._context.clock, set(self._serving)
        while running:
            now = clock()
            wait_s = max(0.0, pacing.next_at(now) - now)
            done, _ = await asyncio.wait({*running, gone}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            running -= done
            self._raise_failure(done - {gone})
            if gone.done() and running:
                raise _ClientGone
            self._raise_if_blocked()
            if running:
                self._act_on_time(clock())

    def _raise_failure(self, done: set[asyncio.Task[None]]) -> None:
        if self._writer.failure is not None:
            raise self._writer.failure
        if self._failure is not None:
            raise self._failure
        for task in done:
            if task.cancelled():
                if self._context.lifecycle.draining:
                    raise Draining("the server is shutting down and had to end this request", retry_after=1)
                raise InternalError("the request was interrupted")
            if (error := task.exception()) is not None:
                self._answered.add(task)
                raise error

    def _raise_if_blocked(self) -> None:
        """A full socket doesn't hold a sequence for ever, however slowly its answer grows."""
        limit_s = self._context.config.limits.stall_s
        if self._writer.blocked_s() >= limit_s:
            raise ClientTooSlow(f"it took nothing for {limit_s:g} s")

    def _act_on_time(self, now: float) -> None:
        limits = self._context.config.limits
        match self._pacing.due(now):
            case Due.OPEN | Due.KEEPALIVE:
                self._pacing.on_write(now)
                self._answer.beat()
            case Due.STALLED:
                raise DeadlineExceeded(f"the answer stopped: nothing came for {limits.stall_s:g} s")
            case Due.DEADLINE:
                raise DeadlineExceeded(f"the request took longer than the {limits.request_s:g} s it may")
            case Due.NOTHING:
                pass

    async def _finish(self, gone: asyncio.Task[None]) -> None:
        if self._before_end is not None:
            await self._before_end()
        self._status = 200
        self._answer.finish()
        await self._sent(gone)

    async def _sent(self, gone: asyncio.Task[None]) -> None:
        """Returns when the client's connection has taken everything, or is gone. Raises ClientTooSlow."""
        while (sending := self._writer.sending) is not None and not gone.done():
            await asyncio.wait({sending, gone}, timeout=self._patience_s(), return_when=asyncio.FIRST_COMPLETED)
            self._raise_if_blocked()
            if self._aborted:
                raise ClientTooSlow("the server is shutting down")
        if self._writer.failure is not None:
            raise self._writer.failure

    def _patience_s(self) -> float:
        """Never long, so that the end of a drain is noticed."""
        return min(1.0, self._context.config.limits.stall_s)

    async def _fail(self, answer: Answer, gone: asyncio.Task[None], error: CortexError) -> None:
        self._closed = True
        self._status = 200 if answer.is_open else error.status
        for part, meter in enumerate(self._meters):
            if part not in self._ended:
                meter.feed([failed(error)])
        self._cancel_serving()
        await asyncio.wait(self._serving, timeout=_CLEANUP_S)
        answer.fail(ErrorReply.of(error, self._encode_error, self._identity.echo), error)
        if (sending := self._writer.sending) is not None:
            await asyncio.wait({sending, gone}, timeout=_CLEANUP_S, return_when=asyncio.FIRST_COMPLETED)
            if self._writer.blocked and not gone.done():
                await self._drop_client(gone, "it does not take the error that ends its answer")

    async def _drop_client(self, gone: asyncio.Task[None], why: str) -> None:
        logger.warning("client is too slow, connection dropped", extra={"request_id": self._identity.id, "why": why})
        self._writer.abort()
        await asyncio.wait({gone}, timeout=_CLEANUP_S)

    def _abort(self) -> None:
        """The drain's time is up."""
        self._aborted = True
        self._cancel_serving()

    def _cancel_serving(self) -> None:
        for task in self._serving:
            task.cancel()

    async def _stop(self, gone: asyncio.Task[None]) -> None:
        """Ends what still runs. What a task failed with is logged, unless it was the answer's own failure."""
        self._writer.close()
        for task in [*self._serving, gone]:
            task.cancel()
        done, late = await asyncio.wait({*self._serving, gone}, timeout=_CLEANUP_S)
        for task in done:
            error = None if task.cancelled() else task.exception()
            if error is not None and task not in self._answered and not isinstance(error, CortexError):
                logger.error("ending a request failed", exc_info=error)
        if late:
            logger.error("cancelling takes too long", extra={"request_id": self._identity.id})

    def _notify_observers(self) -> None:
        for meter in self._meters:
            record = meter.finish(self._status)
            for observer in self._context.observers:
                observer(record)


def _unstreamed(call: Call) -> Call:
    """The backend is told that this client sees nothing before the end."""
    requests: list[Request] = [
        structs.replace(request, streamed=False) if isinstance(request, InferenceRequest) else request
        for request in call.requests
    ]
    return replace(call, requests=requests)


def _only_waiting(events: Sequence[Event]) -> bool:
    return type(events[-1]) in _WAITING and all(type(event) in _WAITING for event in events)


async def disconnected(receive: Receive) -> None:
    """Returns when the client is gone. The body has been read by then, so nothing else can come."""
    while (await receive())["type"] != "http.disconnect":
        pass
