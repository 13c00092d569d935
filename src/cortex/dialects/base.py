"""What every dialect offers: client bytes to wire requests, wire events to client bytes. No I/O, no clock.

A dialect's `parse_*` returns a `Call`: the wire requests to run and the two ways to answer. The serving layer picks
one, feeds it each request's events and writes what comes out. One renderer serves one HTTP answer and is not
shared.
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
    """What the HTTP layer knows and the body doesn't say. `created` in whole Unix seconds.

    `request_id` is unique even when a client repeats its own; `echo` is the one it reads in the answer's headers.
    `resolve` maps the client's model word (alias, `claude-*`, "" = default) to a model id that exists; it raises
    ModelNotFound with the ids there are. `images` turns image URLs into wire images.
    """

    request_id: str
    created: int
    resolve: Callable[[str], str]
    principal: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    images: Images = field(default_factory=Images)
    echo: str = ""


class StreamRenderer(Protocol):
    """Events of one answer in, SSE bytes out.

    `part` numbers the Call's requests (0 but for batched completions prompts). `feed` returns b"" when there is
    nothing to send yet. After the last request's Finished the bytes include the dialect's end of stream.
    `keepalive` may be called at any time between events. `fail` is called at most once, last, instead of
    feeding a Failed event: the dialect's mid-stream error and, where it has one, its end.
    """

    def feed(self, part: int, events: Sequence[Event]) -> bytes: ...
    def keepalive(self) -> bytes: ...
    def fail(self, error: CortexError) -> bytes: ...


class Collector(Protocol):
    """Events of one answer in, one JSON body out. `finish` is called once, after every request's Finished."""

    def feed(self, part: int, events: Sequence[Event]) -> None: ...
    def finish(self) -> bytes: ...


ErrorEncoder = Callable[[CortexError, str], bytes]
"""(error, request id) to the dialect's JSON error envelope."""


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed client request. `renderer` and `collector` make a fresh one per answer. `keepalive_s` is the interval
    the client asked for (negative = none), None the server's."""

    requests: list[Request]
    stream: bool
    renderer: Callable[[], StreamRenderer]
    collector: Callable[[], Collector]
    keepalive_s: float | None = None


def no_renderer() -> StreamRenderer:
    """The `renderer` of a Call that never streams."""
    raise AssertionError("unreachable")
