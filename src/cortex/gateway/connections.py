"""Connections to neurons for requests' streams: HTTP/1.1 over a protocol of our own, kept and used again.

aiohttp's client costs as much per short request as everything else between two sockets; this is what is needed of
it. Orders and polls stay with aiohttp.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import httptools

__all__ = ["Connection", "Connections"]

_MOST_BUFFERED = 256 * 1024
_HEAD_S = 30.0
"""An answer's head comes before anything is computed; a neuron that takes longer doesn't work."""
_TAIL_S = 1.0
"""How long the end of a message may come after its last event, before the connection is given up."""
_KEPT_IDLE_S = 30.0
"""Shorter than neurons keep idle connections."""


class Connection(asyncio.Protocol):
    """One exchange at a time: `send`, `head`, `read` until it gives nothing, `release`; or `abort` at any point.

    All errors are OSErrors. `on_free` is called when it can be used again, `on_lost` when it can't be any more.
    """

    def __init__(self, on_free: Callable[[Connection], None], on_lost: Callable[[Connection], None]) -> None:
        self._on_free = on_free
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._error: OSError | None = None
        self._status = 0
        self._keep = False
        self._complete = self._released = True
        self.answered = False
        self.free_since = 0.0

    def send(self, request: bytes) -> None:
        self._status, self._parts, self._buffered = 0, [], 0
        self.answered = self._complete = self._released = False
        self._limit(_HEAD_S)
        self._transport.write(request)

    async def head(self) -> int:
        """The answer's status."""
        while not self._status:
            await self._news()
        return self._status

    async def read(self) -> bytes:
        """What has come of the body since the last read; empty at its end."""
        while not self._parts:
            if self._complete:
                return b""
            await self._news()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self._buffered > _MOST_BUFFERED:
            self._transport.resume_reading()
        self._parts, self._buffered = [], 0
        return data

    def release(self) -> None:
        """The rest of the answer, if any, is its end: wait for it in the background, then be free."""
        if self._released:
            return
        self._released = True
        if self._complete:
            self._free()
        else:
            self._limit(_TAIL_S)

    def abort(self) -> None:
        """Closing in the midst of an answer cancels the request at the neuron."""
        self._fail(ConnectionAbortedError("the connection was closed"))
        self._transport.abort()

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports aren't of that class

    def data_received(self, data: bytes) -> None:
        self.answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"its answer is no HTTP: {error}"))
            self._transport.abort()
            return
        if self._buffered > _MOST_BUFFERED:
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the connection was closed by the neuron"))
        self._on_lost(self)

    # ---- the parser's side

    def on_message_begin(self) -> None:
        if self._complete:  # nobody asked: it must not become the answer to the next request
            raise httptools.HttpParserError("an answer without a request")

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._keep = self._parser.should_keep_alive()
        self._unlimit()

    def on_body(self, body: bytes) -> None:
        if not self._released:
            self._parts.append(body)
            self._buffered += len(body)

    def on_message_complete(self) -> None:
        self._complete = True
        if self._released:
            self._free()

    # ---- helpers

    def _free(self) -> None:
        self._unlimit()
        if self._error is None and self._keep and not self._transport.is_closing():
            self.free_since = time.monotonic()
            self._on_free(self)
        else:
            self._transport.abort()

    async def _news(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: OSError) -> None:
        self._error = self._error or error
        self._unlimit()
        self._wake()

    def _limit(self, seconds: float) -> None:
        self._unlimit()
        self._timer = self._loop.call_later(seconds, self._too_late)

    def _unlimit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._fail(TimeoutError())
        self._transport.abort()


class Connections:
    """Free connections by address. `connect_s` bounds connecting."""

    def __init__(self, connect_s: float) -> None:
        self._connect_s = connect_s
        self._free: dict[str, list[Connection]] = {}
        self._all: set[Connection] = set()

    async def post(self, endpoint: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Connection]:
        """Sends, and returns the answer's status once it is there. Raises OSError.

        A kept connection may have died unnoticed: when it breaks before any answer, a new one is tried, once. What the
        neuron may have begun ended with the connection.
        """
        address = urlsplit(endpoint)
        lines = [f"POST {address.path}{path} HTTP/1.1", f"host: {address.netloc}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        request = "\r\n".join([*lines, "\r\n"]).encode() + body
        if (kept := self._take(endpoint)) is not None:
            try:
                return await self._exchange(kept, request), kept
            except ConnectionError:
                if kept.answered:
                    raise
        fresh = await self._connect(endpoint)
        return await self._exchange(fresh, request), fresh

    def close(self) -> None:
        for connection in list(self._all):
            connection.abort()

    async def _exchange(self, connection: Connection, request: bytes) -> int:
        connection.send(request)
        try:
            return await connection.head()
        except BaseException:
            connection.abort()
            raise

    def _take(self, endpoint: str) -> Connection | None:
        free = self._free.get(endpoint, [])
        while free:
            connection = free.pop()
            if time.monotonic() - connection.free_since < _KEPT_IDLE_S:
                return connection
            connection.abort()
        return None

    async def _connect(self, endpoint: str) -> Connection:
        address = urlsplit(endpoint)
        secure = address.scheme == "https"
        free = self._free.setdefault(endpoint, [])

        def lost(connection: Connection) -> None:
            self._all.discard(connection)
            if connection in free:
                free.remove(connection)

        async with asyncio.timeout(self._connect_s):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(free.append, lost),
                address.hostname or "",
                address.port or (443 if secure else 80),
                ssl=True if secure else None,
            )
        self._all.add(connection)
        return connection
