"""The record of a finished request: measured from its events, passed to the observers once, and its log line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import structlog
from msgspec import Struct

from cortex.wire.events import (
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)

__all__ = ["Ended", "Observer", "RequestMeter", "RequestRecord", "log_request"]

_logger = structlog.get_logger("cortex.request")

Ended = Literal["ok", "error", "cancelled", "refused"]
"""`refused` failed before Started, `error` failed after it, `cancelled`: the client disconnected."""


class RequestRecord(Struct, frozen=True):
    """One request, at its end. Times in seconds, from the request's arrival.

    `inter_token_s` are the gaps between batches of output, each divided evenly among the deltas of its batch. `status`
    is the HTTP status that was sent, 499 if the client had disconnected. `resumed` counts moves to another neuron.
    """

    id: str
    dialect: str
    model: str
    principal: str | None
    neuron: str
    status: int
    ended: Ended
    finish: str
    code: str
    usage: Usage
    timings: Timings
    duration_s: float
    ttft_s: float | None
    inter_token_s: Sequence[float]
    tool_calls: int
    resumed: int

    @property
    def tokens_per_second(self) -> float | None:
        """Completion tokens after the first, per second after the first; None for fewer than two tokens."""
        if self.ttft_s is None or self.usage.completion_tokens < 2 or self.duration_s <= self.ttft_s:
            return None
        return (self.usage.completion_tokens - 1) / (self.duration_s - self.ttft_s)


Observer = Callable[[RequestRecord], None]


class RequestMeter:
    """Measures one request from its events. `clock` returns monotonic seconds; it is read once per batch."""

    def __init__(
        self, request_id: str, dialect: str, model: str, principal: str | None, clock: Callable[[], float]
    ) -> None:
        self._id = request_id
        self._dialect = dialect
        self._model = model
        self._principal = principal
        self._clock = clock
        self._arrived = clock()
        self._first: float | None = None
        self._last = self._arrived
        self._gaps: list[float] = []
        self._started: Started | None = None
        self._deltas = 0
        self._tool_calls = 0
        self._finish = ""
        self._end: Finished | Failed | None = None

    def feed(self, events: Sequence[Event]) -> None:
        deltas = 0
        for event in events:
            match event:
                case TextDelta() | ReasoningDelta() | ToolCallArguments():
                    deltas += 1
                case ToolCallStart():
                    self._tool_calls += 1
                    deltas += 1
                case Started():
                    self._started = event
                case ChoiceFinished():
                    self._finish = self._finish or event.reason
                case Finished() | Failed():
                    self._end = event
        self.count(deltas)

    def count(self, deltas: int) -> None:
        """A batch of so many pieces of output and nothing else, which needn't be decoded to be fed."""
        if deltas:
            self._note_output(deltas)

    def _note_output(self, deltas: int) -> None:
        now = self._clock()
        if self._first is None:
            self._first = now
        elif deltas == 1:
            self._gaps.append(now - self._last)
        else:
            self._gaps += [(now - self._last) / deltas] * deltas
        self._last = now
        self._deltas += deltas

    def finish(self, status: int, ended: Ended | None = None) -> RequestRecord:
        """The record. Without `ended` the last event decides."""
        end, started = self._end, self._started
        usage = end.usage if isinstance(end, Finished) else self._usage_so_far()
        return RequestRecord(
            id=self._id,
            dialect=self._dialect,
            model=self._model,
            principal=self._principal,
            neuron=started.neuron if started else "",
            status=status,
            ended=ended or self._ended(),
            finish=self._finish,
            code=end.code if isinstance(end, Failed) else "",
            usage=usage,
            timings=end.timings if isinstance(end, Finished) else Timings(),
            duration_s=self._clock() - self._arrived,
            ttft_s=None if self._first is None else self._first - self._arrived,
            inter_token_s=self._gaps,
            tool_calls=self._tool_calls,
            resumed=end.resumed if isinstance(end, Finished) else 0,
        )

    def _usage_so_far(self) -> Usage:
        """The usage of a request without Finished: the prompt from Started, and one completion token per delta."""
        if self._started is None:
            return Usage()
        return Usage(
            prompt_tokens=self._started.prompt_tokens,
            cached_tokens=self._started.cached_tokens,
            completion_tokens=self._deltas,
        )

    def _ended(self) -> Ended:
        match self._end:
            case Finished():
                return "ok"
            case Failed():
                return "error" if self._started else "refused"
            case _:
                return "cancelled"


def log_request(record: RequestRecord) -> None:
    """An Observer that logs one line per request. Prompts and answers are never logged."""
    rate, ttft = record.tokens_per_second, record.ttft_s
    report = _logger.warning if record.ended == "error" else _logger.info
    report(
        "request",
        id=record.id,
        principal=record.principal or "anonymous",
        dialect=record.dialect,
        model=record.model,
        neuron=record.neuron or None,
        status=record.status,
        ended=record.ended,
        finish=record.finish or record.code or None,
        prompt_tokens=record.usage.prompt_tokens,
        cached_tokens=record.usage.cached_tokens,
        completion_tokens=record.usage.completion_tokens,
        reasoning_tokens=record.usage.reasoning_tokens,
        tool_calls=record.tool_calls,
        ttft_s=None if ttft is None else round(ttft, 4),
        tokens_per_second=None if rate is None else round(rate, 1),
        duration_s=round(record.duration_s, 4),
    )
