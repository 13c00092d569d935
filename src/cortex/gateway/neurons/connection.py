"""The line to a neuron: one connection that carries all of the gateway's requests there, both ways at once.

A neuron's engine gives every running request a token in the same step, and what that step brought comes here as one
frame: one read and one decode for all streams, where a connection for each would cost every one of them. The words are
those between a neuron and its worker: Submit and Cancel go out, Emissions come back. Below them lies an ordinary
HTTP/1.1 POST whose two bodies don't end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import httptools
import msgspec

from cortex.gateway.neurons.fleet import Lost
from cortex.wire.events import Event, Failed, Finished
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.inference import Request
from cortex.wire.worker import Cancel, Command, Emission, Emissions, Submit

__all__ = ["ConnectionRefused", "NeuronConnection", "NeuronConnections", "RequestStream"]

_OPEN_S = 30.0
"""A neuron opens a trunk without computing anything; one that takes longer doesn't work."""
_SILENT_S = 30.0
"""A trunk that brought nothing for so long may be dead without anybody having been told: new requests get a new one."""
_ENDS = (Finished, Failed)

_emissions: msgspec.msgpack.Decoder[Emissions] = msgspec.msgpack.Decoder(Emissions)


class ConnectionRefused(Exception):
    """The neuron answered, but not with a trunk: its HTTP status, and the body that says why."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"it answered {status}")
        self.status = status
        self.body = body


class RequestStream:
    """`client.EventStream` for one request on a trunk."""

    def __init__(self, request_id: str, on_close: Callable[[RequestStream], None]) -> None:
        self.request_id = request_id
        self._on_close = on_close
        self._events: list[Event] = []
        self._error: Lost | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[list[Event]], bool] | None = None

    def divert(self, take: Callable[[list[Event]], bool]) -> None:
        self._take = take

    async def read(self) -> list[Event]:
        while not self._events:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self.lose(Lost("the stream was closed"))
        self._on_close(self)

    def feed(self, events: list[Event]) -> None:
        if self._waiter is not None and not self._waiter.done() and type(events[-1]) not in _ENDS:
            try:
                if self._take is not None and self._take(events):
                    return
            except Exception as error:  # noqa: BLE001 - the reader's to handle: other streams share this stack
                self._waiter.set_exception(error)
                return
        self._events = [*self._events, *events] if self._events else events
        self._wake()

    def lose(self, error: Lost) -> None:
        """Nothing more will come; what has come can still be read."""
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class NeuronConnection(asyncio.Protocol):
    """`opened` is done when requests can be submitted; it fails with TrunkRefused or Lost.

    A broken trunk is the loss of every request on it, and `on_lost` is called, once.
    """

    def __init__(self, on_lost: Callable[[NeuronConnection], None]) -> None:
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._frames = FrameDecoder(_emissions)
        self._streams: dict[str, RequestStream] = {}
        self._refusal: bytearray | None = None
        self._error: Lost | None = None
        self._retired = False
        self._heard_at = self._loop.time()
        self.opened: asyncio.Future[None] = self._loop.create_future()

    def open(self, path: str, headers: dict[str, str]) -> None:
        queues = [f"POST {path} HTTP/1.1", "transfer-encoding: chunked", "content-type: application/x-msgpack"]
        queues += [f"{name}: {value}" for name, value in headers.items()]
        self._transport.write("\r\n".join([*queues, "\r\n"]).encode())

    @property
    def is_fit(self) -> bool:
        """Whether a new request may go this way."""
        return not self._transport.is_closing() and self._loop.time() - self._heard_at < _SILENT_S

    def submit(self, request: Request) -> RequestStream:
        """Raises Lost when the trunk has broken or is about to close."""
        if self._transport.is_closing():
            raise self._error or Lost("the neuron is closing the connection", refused=True)
        stream = self._streams[request.id] = RequestStream(request.id, self._close_stream)
        self._send(Submit(request))
        return stream

    def retire(self) -> None:
        """Close behind the last of its requests."""
        self._retired = True
        if not self._streams:
            self._transport.close()

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
            self.break_off(Lost(f"it sent something that is no event: {error.__context__ or error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Lost(str(exc or "the connection was closed by the neuron"), refused=True))
        self._on_lost(self)

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
        for emissions in self._frames.feed(body):
            for item in emissions.items:
                self._deliver(item)

    def on_message_complete(self) -> None:
        if self._refusal is not None and not self.opened.done():
            self.opened.set_exception(ConnectionRefused(self._parser.get_status_code(), bytes(self._refusal)))
        self._transport.close()  # a draining neuron ends its trunks when they are empty

    # ---- helpers

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
            self._send(Cancel(stream.request_id))
            self._forget(stream.request_id)

    def _forget(self, request_id: str) -> None:
        del self._streams[request_id]
        if self._retired and not self._streams:
            self._transport.close()

    def _send(self, command: Command) -> None:
        frame = encode_frame(command)
        self._transport.write(b"%x\r\n%b\r\n" % (len(frame), frame))

    def _fail(self, error: Lost) -> None:
        self._error = self._error or error
        if not self.opened.done():
            self.opened.set_exception(self._error)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.lose(self._error)


class NeuronConnections:
    """The trunk to each neuron, opened by the first request that needs it. `connect_s` bounds connecting."""

    def __init__(self, connect_s: float) -> None:
        self._connect_s = connect_s
        self._current: dict[tuple[str, str], NeuronConnection] = {}
        self._opening: dict[tuple[str, str], asyncio.Task[NeuronConnection]] = {}
        self._all: set[NeuronConnection] = set()

    async def submit(self, endpoint: str, authorization: str, request: Request) -> RequestStream:
        """Raises OSError, TrunkRefused, Lost."""
        connection = self._current.get((endpoint, authorization))
        if connection is None or not connection.is_fit:
            connection = await self._opened(endpoint, authorization)
        return connection.submit(request)

    def close(self) -> None:
        for task in self._opening.values():
            task.cancel()
        for connection in list(self._all):
            connection.break_off(Lost("the gateway is shutting down"))

    async def _opened(self, *key: str) -> NeuronConnection:
        """However many ask at once, one is opened; it outlives whoever asked first."""
        endpoint, authorization = key
        task = self._opening.get((endpoint, authorization))
        if task is None:
            task = asyncio.get_running_loop().create_task(self._open(endpoint, authorization))
            self._opening[endpoint, authorization] = task
            task.add_done_callback(lambda task: self._on_opened(endpoint, authorization, task))
        return await asyncio.shield(task)

    async def _open(self, endpoint: str, authorization: str) -> NeuronConnection:
        address = urlsplit(endpoint)
        secure = address.scheme == "https"
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_s):
            _, connection = await loop.create_connection(
                lambda: NeuronConnection(self._all.discard),
                address.hostname or "",
                address.port or (443 if secure else 80),
                ssl=True if secure else None,
            )
        self._all.add(connection)
        headers = {"host": address.netloc, **({"authorization": authorization} if authorization else {})}
        connection.open(f"{address.path}/trunk", headers)
        try:
            async with asyncio.timeout(_OPEN_S):
                await connection.opened
        except BaseException:
            connection.break_off(Lost("it opened no trunk"))
            raise
        return connection

    def _on_opened(self, endpoint: str, authorization: str, task: asyncio.Task[NeuronConnection]) -> None:
        del self._opening[endpoint, authorization]
        if task.cancelled() or task.exception() is not None:
            return
        if (old := self._current.get((endpoint, authorization))) is not None:
            old.retire()
        self._current[endpoint, authorization] = task.result()
