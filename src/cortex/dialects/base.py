"""The interface of a dialect: request bytes to wire requests, wire events to response bytes. No I/O, no clock.

A dialect's `parse_*` function returns a `Call`: the wire requests to run, and a factory for each form of the answer
(`renderer` for a stream, `collector` for one JSON body). The serving layer makes one of the two per HTTP answer, feeds
it the events of every request and sends the bytes it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cortex.dialects.images import Images
from cortex.errors import CortexError
from cortex.wire.events import Event
from cortex.wire.inference import Request

__all__ = ["Call", "CallContext", "Collector", "ErrorEncoder", "StreamRenderer", "no_renderer"]


@dataclass(frozen=True, slots=True)
class CallContext:
    """What parsing needs beside the body. `created` in whole Unix seconds.

    `request_id` is unique even when a client sends the same `x-request-id` twice; `echo` is the id in the answer's
    headers. `resolve` maps the client's model name (id, alias, `claude-*`, "" = default) to the id of a model that
    exists; it raises ModelNotFound naming the ids that exist. `images` turns image URLs into wire images.
    """

    request_id: str
    created: int
    resolve: Callable[[str], str]
    principal: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    images: Images = field(default_factory=Images)
    echo: str = ""


class StreamRenderer(Protocol):
    """Turns the events of one answer into SSE bytes.

    `part` is the index of the Call's request that the events belong to (always 0, except for completions with several
    prompts). `feed` returns b"" when there is nothing to send yet; after the last request's Finished, its bytes include
    the dialect's end of stream. `keepalive` may be called between any two events. `fail` is called at most once, as the
    last call, instead of feeding a Failed event: it returns the dialect's error inside a stream and, where the dialect
    has one, its end of stream.
    """

    def feed(self, part: int, events: Sequence[Event]) -> bytes: ...
    def keepalive(self) -> bytes: ...
    def fail(self, error: CortexError) -> bytes: ...


class Collector(Protocol):
    """Turns the events of one answer into one JSON body. `finish` is called once, after every request's Finished."""

    def feed(self, part: int, events: Sequence[Event]) -> None: ...
    def finish(self) -> bytes: ...


ErrorEncoder = Callable[[CortexError, str], bytes]
"""(error, request id) → the dialect's JSON error body."""


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed client request. `renderer` and `collector` make a new object for each answer.

    `keepalive_s` is the keep-alive interval in seconds that the client asked for; negative switches keep-alives off,
    None takes the configured interval.
    """

    requests: list[Request]
    stream: bool
    renderer: Callable[[], StreamRenderer]
    collector: Callable[[], Collector]
    keepalive_s: float | None = None


def no_renderer() -> StreamRenderer:
    """The `renderer` of a Call whose `stream` is always False."""
    raise AssertionError("unreachable")
