"""`POST /infer`: one request in, its events out as frames, the caller's disconnect as the cancel. Plain ASGI."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec

from cortex.errors import BadRequest, CortexError, Draining
from cortex.neuron.api.batch_queue import Outbox
from cortex.neuron.backend import LocalBackend
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.telemetry.records import Observer, RequestMeter
from cortex.wire.events import Event, Failed, failed
from cortex.wire.framing import encode_frame
from cortex.wire.inference import Request

__all__ = ["InferExchange", "Message", "Receive", "Run", "Send", "Service", "body", "decode_request"]

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CALLER_GONE = 499
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)


def decode_request(body: bytes) -> Request:
    """Raises BadRequest: the peer is of another version or no gateway at all."""
    try:
        return _requests.decode(body)
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not a msgpack inference request: {error}") from error


@dataclass(frozen=True, slots=True)
class Service:
    """What requests from gateways work with; made once per neuron."""

    backend: LocalBackend
    lifecycle: Lifecycle
    observers: Sequence[Observer] = ()


class Run:
    """One request: counted in flight, measured, told to the observers at its end.

    Its last event is a Finished or Failed, whatever happens. Only cancelling it leaves that out: then nobody listens.
    """

    def __init__(self, service: Service, request: Request, emit: Callable[[Sequence[Event]], None]) -> None:
        self._service = service
        self._request = request
        self._emit_batch = emit
        self._meter = RequestMeter(request.id, "infer", request.model, request.principal, time.monotonic)
        self._task: asyncio.Task[None] | None = None
        self._aborted = False

    async def __call__(self) -> None:
        self._task = asyncio.current_task()
        status = 200
        try:
            with self._service.lifecycle.running(self._abort):
                await self._service.backend.serve(self._request, self._emit)
        except CortexError as error:
            self._emit([failed(error)])
        except asyncio.CancelledError:
            if not self._aborted:
                status = _CALLER_GONE
                raise
            self._emit([failed(Draining("the neuron is shutting down and had to end this request", retry_after=1))])
        except Exception:
            logger.exception("relaying failed", extra={"request_id": self._request.id})
            self._emit([Failed("internal_error", "the neuron's log has the details")])
        finally:
            record = self._meter.finish(status)
            for observer in self._service.observers:
                observer(record)

    def _emit(self, events: Sequence[Event]) -> None:
        self._meter.feed(events)
        self._emit_batch(events)

    def _abort(self) -> None:
        """The drain's time is up."""
        if self._task is not None:
            self._aborted = True
            self._task.cancel()


class InferExchange:
    """Answers one request. The status is always 200: an error is the last event, whenever it happens."""

    def __init__(self, service: Service, request: Request) -> None:
        self._service = service
        self._request = request

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        outbox: Outbox[Sequence[Event]] = Outbox()
        run = asyncio.create_task(Run(self._service, self._request, outbox.put)())
        run.add_done_callback(lambda _: outbox.close())
        gone = asyncio.create_task(_disconnected(receive))
        gone.add_done_callback(lambda _: run.cancel())
        headers = [(b"content-type", b"application/x-msgpack"), (b"x-request-id", self._request.id.encode())]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with aclosing(outbox.batches()) as batches:
                async for batch in batches:
                    await send(body(b"".join([encode_frame(events) for events in batch])))
            await send(body(b"", more=False))
        finally:
            gone.cancel()
            run.cancel()
            await asyncio.wait({run, gone})


def body(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
