"""One response from its first event to its last: what the streamed and the collected answer have in common."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from msgspec import Raw

from cortex.dialects.ids import make_id
from cortex.dialects.openai.responses.events import Lifecycle, StreamEvent
from cortex.dialects.openai.responses.objects import (
    IncompleteDetails,
    ItemStatus,
    OutputItem,
    ResponseObject,
    ResponseProblem,
    UsageDetails,
)
from cortex.dialects.openai.responses.segments import (
    CustomSegment,
    FunctionSegment,
    MessageSegment,
    ReasoningSegment,
    Segment,
)
from cortex.dialects.openai.responses.stored import StoredResponse
from cortex.dialects.openai.responses.tools import Toolbox
from cortex.errors import CortexError
from cortex.wire.events import (
    ChoiceFinished,
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
)

__all__ = ["Answer", "AnswerPlan"]

S = TypeVar("S", bound=Segment)

# Codex retries `server_error` and what is overloaded, and takes other codes for final.
_CODES = {
    "context_length_exceeded": "context_length_exceeded",
    "rate_limit_exceeded": "rate_limit_exceeded",
    "server_is_overloaded": "server_is_overloaded",
    "draining": "server_is_overloaded",
    "model_loading": "server_is_overloaded",
}


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """What is settled before the model speaks. `start` is the response as `response.created` tells it.

    `conversation` are the input's items, for the store; `keep` is None when nothing is to be stored.
    """

    request_id: str
    start: ResponseObject
    toolbox: Toolbox
    seal_reasoning: bool
    principal: str | None
    conversation: list[Raw]
    keep: Callable[[StoredResponse], None] | None


class Answer:
    """Inference events in, stream events out; `response` is the response as it stands."""

    def __init__(self, plan: AnswerPlan) -> None:
        self._plan = plan
        self._open: Segment | None = None
        self._items: list[OutputItem] = []
        self._end = ChoiceFinished("stop")
        self.response = plan.start

    def feed(self, event: Event) -> Iterator[StreamEvent]:
        match event:
            case TextDelta() if event.text:
                message = yield from self._message()
                yield from message.grown(event.text, event.logprobs)
            case ReasoningDelta() if event.text:
                reasoning = yield from self._reasoning()
                yield from reasoning.grown(event.text)
            case ToolCallStart():
                yield from self._call(event)
            case ToolCallArguments() if event.fragment:
                yield from self._grow(event.fragment)
            case ToolCallEnd():
                yield from self._close("completed")
            case ChoiceFinished():
                self._end = event
                cut = event.reason in ("length", "content_filter")
                yield from self._close("incomplete" if cut else "completed")
            case Finished():
                yield self._finish(event)
            case _:
                pass

    def failed(self, error: CortexError) -> Lifecycle:
        """The end of a stream that broke: the items that were done, and why there are no more."""
        message = error.message
        if error.retry_after is not None:
            message = f"{message} (try again in {error.retry_after}s)"
        code = _CODES.get(error.code, "server_error" if error.status >= 500 else "invalid_prompt")
        problem = ResponseProblem(code, message)
        self.response = msgspec.structs.replace(self.response, status="failed", error=problem, output=self._items)
        return Lifecycle(type="response.failed", response=self.response)

    def _finish(self, event: Finished) -> Lifecycle:
        reason = self._incomplete()
        timings = event.timings
        self.response = msgspec.structs.replace(
            self.response,
            status="incomplete" if reason else "completed",
            completed_at=self.response.created_at + round(timings.queue_s + timings.prefill_s + timings.decode_s),
            incomplete_details=reason,
            output=self._items,
            usage=UsageDetails.of(event.usage),
        )
        self._keep()
        return Lifecycle(type=f"response.{self.response.status}", response=self.response)

    def _incomplete(self) -> IncompleteDetails | None:
        if self._end.reason == "length":
            return IncompleteDetails("max_output_tokens")
        return IncompleteDetails("content_filter") if self._end.reason == "content_filter" else None

    def _keep(self) -> None:
        plan = self._plan
        if plan.keep is None:
            return
        encode = msgspec.json.encode
        items = plan.conversation + [Raw(encode(item)) for item in self._items]
        body = Raw(encode(self.response))
        plan.keep(StoredResponse(self.response.id, self.response.created_at, plan.principal, items, body))

    def _message(self) -> Generator[StreamEvent, None, MessageSegment]:
        if isinstance(self._open, MessageSegment):
            return self._open
        return (yield from self._start(lambda index: MessageSegment(self._id("msg_", index), index)))

    def _reasoning(self) -> Generator[StreamEvent, None, ReasoningSegment]:
        if isinstance(self._open, ReasoningSegment):
            return self._open
        sealed = self._plan.seal_reasoning
        return (yield from self._start(lambda index: ReasoningSegment(self._id("rs_", index), index, sealed=sealed)))

    def _call(self, event: ToolCallStart) -> Generator[StreamEvent, None, FunctionSegment | CustomSegment]:
        tool = self._plan.toolbox.client_tool(event.name)
        if tool.custom:
            return (yield from self._start(lambda index: CustomSegment(self._id("ctc_", index), index, event.id, tool)))
        return (yield from self._start(lambda index: FunctionSegment(self._id("fc_", index), index, event.id, tool)))

    def _start(self, make: Callable[[int], S]) -> Generator[StreamEvent, None, S]:
        """Closes what is open and opens the segment that `make` makes for its output index."""
        yield from self._close("completed")
        self._open = segment = make(len(self._items))
        yield from segment.opened()
        return segment

    def _grow(self, piece: str) -> Iterator[StreamEvent]:
        if self._open is not None:
            yield from self._open.grown(piece)

    def _close(self, status: ItemStatus) -> Iterator[StreamEvent]:
        segment, self._open = self._open, None
        if segment is not None:
            yield from segment.closed(status)
            self._items.append(segment.item(status))

    def _id(self, prefix: str, index: int) -> str:
        return make_id(prefix, self._plan.request_id, index)
