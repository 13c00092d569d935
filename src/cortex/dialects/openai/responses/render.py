"""The two forms of a Responses answer: an event stream and one JSON object."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cortex.dialects import sse
from cortex.dialects.openai.responses.answer import ResponseBuilder, ResponsePlan
from cortex.dialects.openai.responses.events import ResponseEvent, StreamEvent
from cortex.errors import CortexError
from cortex.wire.events import Event, Started

__all__ = ["ResponseCollector", "ResponseRenderer"]

_encode = msgspec.json.Encoder().encode


class ResponseRenderer:
    """StreamRenderer of one response.

    The stream begins with response.created and ends with response.completed, .incomplete or .failed: Codex treats any
    other end as a lost connection and repeats the request (codex-api/src/sse/responses.rs).
    """

    def __init__(self, plan: ResponsePlan) -> None:
        self._builder = ResponseBuilder(plan)
        self._sequence = 0
        self._begun = False

    def feed(self, part: int, events: Sequence[Event]) -> bytes:  # noqa: ARG002 - a Call with one request
        frames: list[bytes] = []
        for event in events:
            if isinstance(event, Started):
                frames.append(self._begin())
            frames += map(self._frame, self._builder.feed(event))
        return b"".join(frames)

    def keepalive(self) -> bytes:
        """A repeated response.in_progress: comments don't reset Codex's idle timer."""
        return self._begin() or self._frame(ResponseEvent(type="response.in_progress", response=self._builder.response))

    def fail(self, error: CortexError) -> bytes:
        return self._begin() + self._frame(self._builder.failed(error))

    def _begin(self) -> bytes:
        """The first two events, once: at Started, or earlier if a keep-alive is due first."""
        if self._begun:
            return b""
        self._begun = True
        start = self._builder.response
        kinds = ("response.created", "response.in_progress")
        return b"".join(self._frame(ResponseEvent(type=kind, response=start)) for kind in kinds)

    def _frame(self, event: StreamEvent) -> bytes:
        event.sequence_number = self._sequence
        self._sequence += 1
        name = event.type if isinstance(event, ResponseEvent) else str(event.__struct_config__.tag)
        return sse.event_frame(name, _encode(event))


class ResponseCollector:
    """Collector of one response object."""

    def __init__(self, plan: ResponsePlan) -> None:
        self._builder = ResponseBuilder(plan)

    def feed(self, part: int, events: Sequence[Event]) -> None:  # noqa: ARG002 - a Call with one request
        for event in events:
            for _ in self._builder.feed(event):
                pass

    def finish(self) -> bytes:
        return _encode(self._builder.response)
