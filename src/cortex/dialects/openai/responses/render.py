"""The two ways a Responses answer leaves: as an event stream and as one object."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cortex.dialects import sse
from cortex.dialects.openai.responses.answer import Answer, AnswerPlan
from cortex.dialects.openai.responses.events import Lifecycle, StreamEvent
from cortex.errors import CortexError
from cortex.wire.events import Event, Started

__all__ = ["ResponseCollector", "ResponseRenderer"]

_encode = msgspec.json.Encoder().encode


class ResponseRenderer:
    """Events of one answer in, its SSE bytes out; see `base.StreamRenderer`.

    The stream begins with response.created and ends with response.completed, .incomplete or .failed: Codex takes any
    other end for a broken connection and asks again.
    """

    def __init__(self, plan: AnswerPlan) -> None:
        self._answer = Answer(plan)
        self._sequence = 0
        self._begun = False

    def feed(self, part: int, events: Sequence[Event]) -> bytes:  # noqa: ARG002 - a Call with one request
        frames: list[bytes] = []
        for event in events:
            if isinstance(event, Started):
                frames.append(self._begin())
            frames += map(self._frame, self._answer.feed(event))
        return b"".join(frames)

    def keepalive(self) -> bytes:
        """A real event that changes nothing: comments don't reset Codex's idle timer."""
        return self._begin() or self._frame(Lifecycle(type="response.in_progress", response=self._answer.response))

    def fail(self, error: CortexError) -> bytes:
        return self._begin() + self._frame(self._answer.failed(error))

    def _begin(self) -> bytes:
        """The first two events, once: with Started, or earlier when silence has to be filled."""
        if self._begun:
            return b""
        self._begun = True
        start = self._answer.response
        kinds = ("response.created", "response.in_progress")
        return b"".join(self._frame(Lifecycle(type=kind, response=start)) for kind in kinds)

    def _frame(self, event: StreamEvent) -> bytes:
        event.sequence_number = self._sequence
        self._sequence += 1
        name = event.type if isinstance(event, Lifecycle) else str(event.__struct_config__.tag)
        return sse.event_frame(name, _encode(event))


class ResponseCollector:
    """Events of one answer in, the finished response object out."""

    def __init__(self, plan: AnswerPlan) -> None:
        self._answer = Answer(plan)

    def feed(self, part: int, events: Sequence[Event]) -> None:  # noqa: ARG002 - a Call with one request
        for event in events:
            for _ in self._answer.feed(event):
                pass

    def finish(self) -> bytes:
        return _encode(self._answer.response)
