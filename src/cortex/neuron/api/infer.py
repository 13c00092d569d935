"""Requests that come without a dialect: `POST /infer` answers one, `connection` many. Plain ASGI.

`/infer`: a msgpack request in, its events out as frames, each a list of events; the caller's disconnect is the cancel.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from cortex.errors import BadRequest, CortexError, Draining
from cortex.neuron.backend import LocalBackend
from cortex.neuron.workers.active_requests import Relay, events_of
from cortex.serving.exchange.exchange import disconnected
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.exchange.response_writer import Receive, ResponseWriter, Scope, Send
from cortex.serving.telemetry.records import Observer, RequestMeter
from cortex.wire.events import Event, Failed, failed
from cortex.wire.framing import encode_frame
from cortex.wire.inference import Request
from cortex.wire.worker import Emission, RelayedEmission

__all__ = ["InferContext", "InferExchange", "MeteredRequest", "decode_request"]

logger = logging.getLogger(__name__)

_CALLER_GONE = 499
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)


def decode_request(body: bytes) -> Request:
    """Raises BadRequest: the peer is of another version or no gateway at all."""
    try:
        return _requests.decode(body)
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not a msgpack inference request: {error}") from error


@dataclass(frozen=True, slots=True)
class InferContext:
    """What these requests work with; made once per neuron."""

    backend: LocalBackend
    lifecycle: Lifecycle
    observers: Sequence[Observer] = ()


class MeteredRequest:
    """One request: counted in flight, measured, reported to the observers at its end.

    Its last event is a Finished or Failed, whatever happens. Only cancelling it leaves that out: then nobody listens.
    """

    def __init__(self, context: InferContext, request: Request, emit: Relay) -> None:
        self._context = context
        self._request = request
        self._relay = emit
        self._meter = RequestMeter(request.id, "infer", request.model, request.principal, time.monotonic)
        self._task: asyncio.Task[None] | None = None
        self._aborted = False

    async def __call__(self) -> None:
        self._task = asyncio.current_task()
        status = 200
        try:
            with self._context.lifecycle.running(self._abort):
                await self._context.backend.relay(self._request, self._emit)
        except CortexError as error:
            self._end(failed(error))
        except asyncio.CancelledError:
            if not self._aborted:
                status = _CALLER_GONE
                raise
            self._end(failed(Draining("the neuron is shutting down and had to end this request", retry_after=1)))
        except Exception:
            logger.exception("relaying failed", extra={"request_id": self._request.id})
            self._end(Failed("internal_error", "the neuron's log has the details"))
        finally:
            record = self._meter.finish(status)
            for observer in self._context.observers:
                observer(record)

    def _emit(self, item: Emission | RelayedEmission, events: Sequence[Event] | None) -> None:
        if events is None:
            self._meter.count(item.deltas or 0)
        else:
            self._meter.feed(events)
        self._relay(item, events)

    def _end(self, failure: Failed) -> None:
        events: list[Event] = [failure]
        self._emit(Emission(self._request.id, events), events)

    def _abort(self) -> None:
        """The drain's time is up."""
        if self._task is not None:
            self._aborted = True
            self._task.cancel()


class InferExchange:
    """Answers one request. The status is always 200: an error is the last event, whenever it happens."""

    def __init__(self, context: InferContext, request: Request) -> None:
        self._context = context
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        def emit(item: Emission | RelayedEmission, events: Sequence[Event] | None) -> None:
            writer.write(encode_frame(events_of(item) if events is None else events))

        def give_up() -> None:
            run.cancel()

        run = asyncio.create_task(MeteredRequest(self._context, self._request, emit)())
        gone = asyncio.create_task(disconnected(receive))
        writer = ResponseWriter(scope, send, on_failure=give_up)
        try:
            writer.start(
                200, [(b"content-type", b"application/x-msgpack"), (b"x-request-id", self._request.id.encode())]
            )
            await asyncio.wait({run, gone}, return_when=asyncio.FIRST_COMPLETED)
            if writer.failure is None and run.done():
                writer.write(b"", more=False)
                while (sending := writer.sending) is not None and not gone.done():
                    await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if writer.failure is not None:
                logger.warning("caller is too slow, connection dropped", extra={"request_id": self._request.id})
                writer.abort()
        finally:
            writer.close()
            gone.cancel()
            run.cancel()
            await asyncio.wait({run, gone})
