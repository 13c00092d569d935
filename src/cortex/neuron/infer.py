"""`POST /infer`: one request in, its events out as frames, the gateway's disconnect as the cancel. Plain ASGI."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from cortex.errors import BadRequest, Draining
from cortex.serving.backend import Backend
from cortex.serving.lifecycle import Lifecycle
from cortex.serving.records import Observer, RequestMeter
from cortex.wire.events import Event, Failed, failed
from cortex.wire.framing import encode_frame
from cortex.wire.inference import Request

__all__ = ["InferExchange", "decode_request"]

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)


def decode_request(body: bytes) -> Request:
    """Raises BadRequest: the peer is of another version or no gateway at all."""
    try:
        return _requests.decode(body)
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not a msgpack inference request: {error}") from error


class InferExchange:
    """Answers one request. The status is always 200: an error is the last event, whenever it happens."""

    def __init__(self, backend: Backend, lifecycle: Lifecycle, observers: Sequence[Observer], request: Request) -> None:
        self._backend = backend
        self._lifecycle = lifecycle
        self._observers = observers
        self._request = request
        self._meter = RequestMeter(request.id, "infer", request.model, request.principal, time.monotonic)
        self._relaying: asyncio.Task[None] | None = None
        self._status = 499

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        with self._lifecycle.running(self._abort):
            self._relaying = asyncio.create_task(self._relay(send))
            gone = asyncio.create_task(_disconnected(receive))
            try:
                await asyncio.wait({self._relaying, gone}, return_when=asyncio.FIRST_COMPLETED)
                await self._conclude(send, gone.done())
            finally:
                self._relaying.cancel()
                gone.cancel()
                await asyncio.wait({self._relaying, gone})
                record = self._meter.finish(self._status)
                for observer in self._observers:
                    observer(record)

    async def _relay(self, send: Send) -> None:
        headers = [(b"content-type", b"application/x-msgpack"), (b"x-request-id", self._request.id.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with aclosing(self._backend.infer(self._request)) as batches:
            async for events in batches:
                self._meter.feed(events)
                await _write(send, events, more=True)
        self._status = 200
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _conclude(self, send: Send, gone: bool) -> None:
        """What is left when the relay didn't end by itself: a drain whose time is up, or a bug."""
        assert self._relaying is not None
        if not self._relaying.done() or gone:
            return
        if self._relaying.cancelled():
            end = failed(Draining("the neuron is shutting down and had to end this request", retry_after=1))
        elif error := self._relaying.exception():
            logger.error("relaying failed", exc_info=error, extra={"request_id": self._request.id})
            end = Failed("internal_error", "the neuron's log has the details")
        else:
            return
        self._meter.feed([end])
        with suppress(OSError):
            await _write(send, [end], more=False)

    def _abort(self) -> None:
        if self._relaying is not None:
            self._relaying.cancel()


async def _write(send: Send, events: Sequence[Event], *, more: bool) -> None:
    await send({"type": "http.response.body", "body": encode_frame(events), "more_body": more})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
