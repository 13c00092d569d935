"""The two ways to write an answer: as a stream of frames, or as one JSON body.

An answer never starts a response before it must: as long as it isn't open, a failure still gets a real HTTP status.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cortex.dialects.base import Collector, StreamRenderer
from cortex.errors import CortexError
from cortex.serving.exchange.response_writer import Headers, ResponseWriter
from cortex.serving.http.errors import ErrorReply
from cortex.wire.events import Event, Finished, Progress

__all__ = ["Answer", "StreamAnswer", "WholeAnswer"]

_STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # proxies in front would hold frames back until their buffer is full
]


class Answer(Protocol):
    """Written by one exchange with plain calls. `feed` takes one batch of one request's events (never a Failed). With
    the last request's Finished the answer's last bytes are made; `finish` sends them."""

    @property
    def is_open(self) -> bool: ...
    def feed(self, part: int, events: Sequence[Event]) -> None: ...
    def beat(self) -> None: ...
    def finish(self) -> None: ...
    def fail(self, reply: ErrorReply, error: CortexError) -> None: ...


class StreamAnswer:
    """Frames, several events in one write. The last write is held back until `finish`."""

    def __init__(self, writer: ResponseWriter, renderer: StreamRenderer, headers: Headers, parts: int) -> None:
        self._writer = writer
        self._renderer = renderer
        self._headers = headers
        self._unfinished = parts
        self._held = b""
        self.is_open = False

    def feed(self, part: int, events: Sequence[Event]) -> None:
        data = self._renderer.feed(part, events)
        if type(events[-1]) is Finished:
            self._unfinished -= 1
        if not self._unfinished or (not self.is_open and all(type(event) is Progress for event in events)):
            self._held += data
            return
        self._write(data)

    def beat(self) -> None:
        """Send a keep-alive, opening the response if need be. Does nothing while data waits for the client."""
        if self._unfinished and not self._writer.blocked:
            self._write(self._renderer.keepalive())

    def finish(self) -> None:
        self._write(b"", more=False)

    def fail(self, reply: ErrorReply, error: CortexError) -> None:
        self._unfinished = 0
        if self.is_open:
            self._held = b""
            self._write(self._renderer.fail(error), more=False)
        else:
            reply.write(self._writer, self._headers)

    def _write(self, data: bytes, *, more: bool = True) -> None:
        if not self.is_open:
            self.is_open = True
            self._writer.start(200, [*_STREAM_HEADERS, *self._headers])
        if self._held:
            data, self._held = self._held + data, b""
        if data or not more:
            self._writer.write(data, more=more)


class WholeAnswer:
    """One JSON body, sent when everything is there."""

    is_open = False

    def __init__(self, writer: ResponseWriter, collector: Collector, headers: Headers, parts: int) -> None:
        self._writer = writer
        self._collector = collector
        self._headers = headers
        self._unfinished = parts
        self._body = b""

    def feed(self, part: int, events: Sequence[Event]) -> None:
        self._collector.feed(part, events)
        if type(events[-1]) is Finished:
            self._unfinished -= 1
            if not self._unfinished:
                self._body = self._collector.finish()

    def beat(self) -> None:
        """Nothing can be said before the whole body is known."""

    def finish(self) -> None:
        length = b"%d" % len(self._body)
        headers = [(b"content-type", b"application/json"), (b"content-length", length), *self._headers]
        self._writer.start(200, headers)
        self._writer.write(self._body, more=False)

    def fail(self, reply: ErrorReply, error: CortexError) -> None:  # noqa: ARG002 - the reply holds it
        reply.write(self._writer, self._headers)
