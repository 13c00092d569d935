"""The gateway's one connection to a neuron: requests and orders go out, events, status and replies come back.

A neuron's engine gives every running request a token in the same step, and what that step brought comes here as one
frame: one read and one decode for all streams. The frames are those of `wire.connection`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from itertools import count
from typing import cast
from urllib.parse import urlsplit

import httptools
import msgspec

from cortex.errors import CortexError, InternalError, PayloadTooLarge, from_code
from cortex.gateway.neurons.fleet import Lost
from cortex.gateway.neurons.request_stream import EmitList, RequestStream
from cortex.gateway.neurons.uploads import PART_BYTES, Uploads
from cortex.wire.connection import (
    FromNeuron,
    LoadCommand,
    OrderReply,
    ProfilesCommand,
    StatusPush,
    StatusRequest,
    ToNeuron,
    UnloadCommand,
)
from cortex.wire.events import Failed, Finished
from cortex.wire.framing import FrameDecoder, FrameTooLarge, encode_frame
from cortex.wire.inference import Request
from cortex.wire.status import LoadJob, LoadOrder, NeuronStatus, ProfilesOrder, UnloadOrder
from cortex.wire.worker import Cancel, Emission, Emissions, Submit

__all__ = ["NeuronConnection", "connect"]

logger = logging.getLogger(__name__)

_OPEN_S = 30.0
"""A neuron answers the POST without computing anything; one that takes longer doesn't work."""
_LENGTH_BYTES = 4
_ENDS = (Finished, Failed)

_frames: msgspec.msgpack.Decoder[FromNeuron] = msgspec.msgpack.Decoder(FromNeuron)


class _ErrorBody(msgspec.Struct):
    message: str
    code: str | None = None
    param: str | None = None


class _Envelope(msgspec.Struct):
    error: _ErrorBody


_envelopes = msgspec.json.Decoder(_Envelope)


class NeuronConnection(asyncio.Protocol):
    """`opened` is done when the neuron has accepted it; it fails with Lost, or with the CortexError it answered with.

    Whatever breaks the connection is the loss of every request and order on it. `on_lost` is called then, once.
    """

    def __init__(
        self,
        on_status: Callable[[NeuronConnection, NeuronStatus], None],
        on_lost: Callable[[NeuronConnection, Lost], None],
    ) -> None:
        self._on_status = on_status
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._decoder = FrameDecoder(_frames)
        self._streams: dict[str, RequestStream] = {}
        self._replies: dict[int, asyncio.Future[LoadJob | None]] = {}
        self._ids = count(1)
        self._uploads = Uploads(self._send)
        self._refusal: bytearray | None = None
        self._error: Lost | None = None
        self._retired = False
        self._heard_at = self._loop.time()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def open(self, path: str, headers: dict[str, str]) -> None:
        lines = [f"POST {path} HTTP/1.1", "transfer-encoding: chunked", "content-type: application/x-msgpack"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._transport.write("\r\n".join([*lines, "\r\n"]).encode())

    def silent_s(self) -> float:
        """Seconds since anything came."""
        return self._loop.time() - self._heard_at

    def submit(self, request: Request, emit: EmitList) -> RequestStream:
        """Raises Lost when the connection has broken or is about to close, PayloadTooLarge."""
        self._check()
        try:
            frame = encode_frame(Submit(request))
        except FrameTooLarge as error:
            raise PayloadTooLarge(f"the request is too large to be sent to a neuron: {error}") from error
        stream = self._streams[request.id] = RequestStream(request.id, emit, self._close_stream)
        if len(frame) > PART_BYTES:
            self._uploads.add(request.id, frame[_LENGTH_BYTES:])
        else:
            self._write(frame)
        return stream

    async def load(self, order: LoadOrder) -> LoadJob:
        """Returns when the load has ended. Raises Lost, and what the neuron refused with."""
        job = await self._order(LoadCommand(next(self._ids), order))
        if job is None:
            raise Lost("its reply to a load holds no job (another version?)")
        return job

    async def unload(self, order: UnloadOrder) -> None:
        await self._order(UnloadCommand(next(self._ids), order))

    async def put_profiles(self, order: ProfilesOrder) -> None:
        await self._order(ProfilesCommand(next(self._ids), order.source, order.replaces, bytes(order.document)))

    def request_status(self) -> None:
        if not self._transport.is_closing():
            self._send(StatusRequest())

    def retire(self) -> None:
        """Close it behind the last request and order on it."""
        self._retired = True
        self._close_if_idle()

    def break_off(self, error: Lost) -> None:
        """Whatever runs on it is lost; closing the connection cancels it at the neuron."""
        self._fail(error)
        self._transport.abort()

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports aren't of that class

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            # What on_body raises arrives here as the context of the parser's own error.
            cause = error.__context__ or error
            self.break_off(Lost(f"it sent something that is no frame (another version?): {cause}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Lost(str(exc or "the connection was closed by the neuron")))
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._uploads.pause()

    def resume_writing(self) -> None:
        self._uploads.resume()

    # ---- the parser's side

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() != 200:
            self._refusal = bytearray()
        elif not self.opened.done():
            self.opened.set_result(None)

    def on_body(self, body: bytes) -> None:
        if self._refusal is not None:
            self._refusal += body
            return
        for frame in self._decoder.feed(body):
            match frame:
                case Emissions(items):
                    for item in items:
                        self._deliver(item)
                case StatusPush(status):
                    self._take_status(status)
                case OrderReply():
                    self._settle(frame)

    def on_message_complete(self) -> None:
        if self._refusal is not None and not self.opened.done():
            self.opened.set_exception(_error_of(self._parser.get_status_code(), bytes(self._refusal)))
        self._transport.close()  # a draining neuron ends its connections when they are empty

    # ---- helpers

    def _check(self) -> None:
        if self._transport.is_closing():
            raise self._error or Lost("the neuron is closing the connection")

    async def _order(self, command: LoadCommand | UnloadCommand | ProfilesCommand) -> LoadJob | None:
        self._check()
        reply = self._replies[command.id] = self._loop.create_future()
        try:
            self._send(command)
            job: LoadJob | None = await reply
            return job
        finally:
            self._replies.pop(command.id, None)
            self._close_if_idle()

    def _take_status(self, status: NeuronStatus) -> None:
        try:
            self._on_status(self, status)
        except Exception:  # a bug; it must not end what runs on this connection
            logger.exception("a neuron's status could not be taken in")

    def _settle(self, frame: OrderReply) -> None:
        """A reply to an order whose owner has left is dropped."""
        reply = self._replies.pop(frame.id, None)
        if reply is None or reply.done():
            return
        if frame.error is not None:
            reply.set_exception(frame.error.to_error())
        else:
            reply.set_result(frame.job)

    def _deliver(self, item: Emission) -> None:
        """An event for a request that has left crossed its Cancel."""
        stream = self._streams.get(item.request_id)
        if stream is None:
            return
        if type(item.events[-1]) in _ENDS:
            self._forget(item.request_id)
        stream.feed(item.events)

    def _close_stream(self, stream: RequestStream) -> None:
        """Leaving before the end is the cancel."""
        if self._streams.get(stream.request_id) is stream:
            if not self._transport.is_closing():
                self._send(Cancel(stream.request_id))
            self._forget(stream.request_id)

    def _forget(self, request_id: str) -> None:
        self._uploads.drop(request_id)
        del self._streams[request_id]
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._retired and not self._streams and not self._replies:
            self._transport.close()

    def _send(self, command: ToNeuron) -> None:
        self._write(encode_frame(command))

    def _write(self, frame: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(frame), frame))

    def _fail(self, error: Lost) -> None:
        if self._error is not None:
            return
        self._error = error
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # seen, even when whoever opened it has left
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._uploads.drop(stream.request_id)
            stream.lose(error)
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(error)
        self._on_lost(self, error)


async def connect(
    endpoint: str,
    token: str | None,
    connect_s: float,
    on_status: Callable[[NeuronConnection, NeuronStatus], None],
    on_lost: Callable[[NeuronConnection, Lost], None],
) -> NeuronConnection:
    """Open a connection; `connect_s` bounds the TCP and TLS handshakes. Raises Lost, and what the neuron refused
    with."""
    address = urlsplit(endpoint)
    secure = address.scheme == "https"
    try:
        async with asyncio.timeout(connect_s):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: NeuronConnection(on_status, on_lost),
                address.hostname or "",
                address.port or (443 if secure else 80),
                ssl=True if secure else None,
            )
    except TimeoutError:
        raise Lost(f"it can't be reached within {connect_s:g} s") from None
    except OSError as error:
        raise Lost(_words_of(error)) from error
    headers = {"host": address.netloc, **({"authorization": f"Bearer {token}"} if token else {})}
    connection.open(f"{address.path}/connection", headers)
    try:
        async with asyncio.timeout(_OPEN_S):
            await connection.opened
    except TimeoutError:
        lost = Lost(f"it didn't open the connection within {_OPEN_S:g} s")
        connection.break_off(lost)
        raise lost from None
    except BaseException as error:
        connection.break_off(Lost(str(error)))
        raise
    return connection


def _error_of(status: int, body: bytes) -> CortexError | Lost:
    if status == 404:
        return Lost("it has no POST /connection: it runs another version of cortex, or isn't a neuron")
    try:
        error = _envelopes.decode(body).error
    except msgspec.DecodeError:
        return InternalError(f"it answered {status}")
    return from_code(error.code or "", error.message, param=error.param)


def _words_of(error: OSError) -> str:
    """`connection refused`, `name or service not known`: resolvers and TLS have numbers of their own."""
    number = error.errno or 0
    if isinstance(error, ssl.SSLError) or number <= 0:
        return (error.strerror or str(error)).lower()
    return os.strerror(number).lower()
