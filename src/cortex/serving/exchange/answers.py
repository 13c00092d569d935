"""The two ways to write an answer over ASGI: as a stream of frames, or as one JSON body.

An answer never starts a response before it must: as long as it isn't open, a failure still gets a real HTTP status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from litestar.types import Send

from cortex.dialects.base import Collector, StreamRenderer
from cortex.errors import CortexError
from cortex.serving.http.errors import ErrorReply
from cortex.wire.events import Event, Finished, Progress

__all__ = ["Answer", "BeforeEnd", "Headers", "StreamAnswer", "WholeAnswer"]

Headers = list[tuple[bytes, bytes]]
BeforeEnd = Callable[[], Awaitable[None]]

_STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # proxies in front would hold frames back until their buffer is full
]


class Answer(Protocol):
    """Written by one exchange. `feed` takes one batch of one request's events (never a Failed)."""

    @property
    def is_open(self) -> bool: ...
    @property
    def is_writing(self) -> bool:
        """Whether a write waits, for its client or for another write."""
        ...

    async def feed(self, part: int, events: Sequence[Event]) -> None: ...
    async def beat(self) -> None: ...
    async def fail(self, reply: ErrorReply, error: CortexError) -> None: ...


class StreamAnswer:
    """Frames, several events in one write. Rendering and writing happen under one lock, so that the frames leave in
    the order they were made although keep-alives come from another task."""

    def __init__(
        self, send: Send, renderer: StreamRenderer, headers: Headers, parts: int, before_end: BeforeEnd
    ) -> None:
        self._send = send
        self._renderer = renderer
        self._headers = headers
        self._unfinished = parts
        self._before_end = before_end
        self._held = b""
        self._lock = asyncio.Lock()
        self.is_open = False

    @property
    def is_writing(self) -> bool:
        return self._lock.locked()

    async def feed(self, part: int, events: Sequence[Event]) -> None:
        async with self._lock:
            data = self._renderer.feed(part, events)
            if type(events[-1]) is Finished:
                await self._count_end()
            if not self.is_open:
                if all(type(event) is Progress for event in events):
                    self._held += data
                    return
                await self._open()
                data = self._held + data
            if data or not self._unfinished:
                await self._write(data, more=self._unfinished > 0)

    async def beat(self) -> None:
        """A sign of life, opening the response if need be. Does nothing while a write waits for the client."""
        if self._lock.locked() or not self._unfinished:
            return
        async with self._lock:
            if not self._unfinished:
                return
            held = b""
            if not self.is_open:
                await self._open()
                held = self._held
            await self._write(held + self._renderer.keepalive(), more=True)

    async def fail(self, reply: ErrorReply, error: CortexError) -> None:
        async with self._lock:
            self._unfinished = 0
            if self.is_open:
                await self._write(self._renderer.fail(error), more=False)
            else:
                await reply.send(self._send, self._headers)

    async def _count_end(self) -> None:
        if self._unfinished == 1:
            await self._before_end()
        self._unfinished -= 1

    async def _open(self) -> None:
        self.is_open = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [*_STREAM_HEADERS, *self._headers]})

    async def _write(self, data: bytes, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


class WholeAnswer:
    """One JSON body, sent when everything is there."""

    is_open = False
    is_writing = False

    def __init__(self, send: Send, collector: Collector, headers: Headers, parts: int, before_end: BeforeEnd) -> None:
        self._send = send
        self._collector = collector
        self._headers = headers
        self._unfinished = parts
        self._before_end = before_end

    async def feed(self, part: int, events: Sequence[Event]) -> None:
        self._collector.feed(part, events)
        if type(events[-1]) is Finished:
            self._unfinished -= 1
            if not self._unfinished:
                body = self._collector.finish()
                await self._before_end()
                await self._finish(body)

    async def beat(self) -> None:
        """Nothing can be said before the whole body is known."""

    async def fail(self, reply: ErrorReply, error: CortexError) -> None:  # noqa: ARG002 - the reply holds it
        await reply.send(self._send, self._headers)

    async def _finish(self, body: bytes) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *self._headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
