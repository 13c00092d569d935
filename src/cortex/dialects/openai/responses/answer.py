"""Builds one response from the events of its answer. The streamed and the whole answer share it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from msgspec import Raw

from cortex.dialects.openai.responses.events import ResponseEvent, StreamEvent
from cortex.dialects.openai.responses.item_builders import (
    CustomCallBuilder,
    FunctionCallBuilder,
    ItemBuilder,
    MessageBuilder,
    ReasoningBuilder,
)
from cortex.dialects.openai.responses.objects import (
    IncompleteDetails,
    ItemStatus,
    OutputItem,
    ResponseError,
    ResponseObject,
    UsageDetails,
)
from cortex.dialects.openai.responses.stored import StoredResponse, item_id
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

__all__ = ["ResponseBuilder", "ResponsePlan"]

S = TypeVar("S", bound=ItemBuilder)

# Codex retries `server_error` and `server_is_overloaded`; other codes end its turn (codex-api/src/sse/responses.rs).
_CODES = {
    "context_length_exceeded": "context_length_exceeded",
    "rate_limit_exceeded": "rate_limit_exceeded",
    "server_is_overloaded": "server_is_overloaded",
    "draining": "server_is_overloaded",
    "model_loading": "server_is_overloaded",
}


@dataclass(frozen=True, slots=True)
class ResponsePlan:
    """What is known of an answer before generation. `start` is the response object of `response.created`.

    `opaque_reasoning`: reasoning items carry `encrypted_content`. `conversation` holds the input items, for the store.
    `keep` takes the finished response; None when it isn't stored.
    """

    request_id: str
    start: ResponseObject
    toolbox: Toolbox
    opaque_reasoning: bool
    principal: str | None
    conversation: list[Raw]
    keep: Callable[[StoredResponse], None] | None


class ResponseBuilder:
    """Turns inference events into the events of a Responses stream. `response` is the response object so far."""

    def __init__(self, plan: ResponsePlan) -> None:
        self._plan = plan
        self._open: ItemBuilder | None = None
        self._items: list[OutputItem] = []
        self._end = ChoiceFinished("stop")
        self.response = plan.start

    def feed(self, event: Event) -> Iterator[StreamEvent]:
        match event:
            case TextDelta() if event.text:
                message = yield from self._message()
                yield from message.appended(event.text, event.logprobs)
            case ReasoningDelta() if event.text:
                reasoning = yield from self._reasoning()
                yield from reasoning.appended(event.text)
            case ToolCallStart():
                yield from self._call(event)
            case ToolCallArguments() if event.fragment:
                yield from self._append(event.fragment)
            case ToolCallEnd():
                yield from self._close("completed" if event.complete else "incomplete")
            case ChoiceFinished():
                self._end = event
                incomplete = event.reason in ("length", "content_filter")
                yield from self._close("incomplete" if incomplete else "completed")
            case Finished():
                yield self._finish(event)
            case _:
                pass

    def failed(self, error: CortexError) -> ResponseEvent:
        """The last event of a failed response: the finished items and the error."""
        message = error.message
        if error.retry_after is not None:
            message = f"{message} (try again in {error.retry_after}s)"
        code = _CODES.get(error.code, "server_error" if error.status >= 500 else "invalid_prompt")
        problem = ResponseError(code, message)
        self.response = msgspec.structs.replace(self.response, status="failed", error=problem, output=self._items)
        return ResponseEvent(type="response.failed", response=self.response)

    def _finish(self, event: Finished) -> ResponseEvent:
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
        return ResponseEvent(type=f"response.{self.response.status}", response=self.response)

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

    def _message(self) -> Generator[StreamEvent, None, MessageBuilder]:
        if isinstance(self._open, MessageBuilder):
            return self._open
        return (yield from self._start(lambda index: MessageBuilder(self._id("msg_", index), index)))

    def _reasoning(self) -> Generator[StreamEvent, None, ReasoningBuilder]:
        if isinstance(self._open, ReasoningBuilder):
            return self._open
        opaque = self._plan.opaque_reasoning
        return (yield from self._start(lambda index: ReasoningBuilder(self._id("rs_", index), index, opaque=opaque)))

    def _call(self, event: ToolCallStart) -> Generator[StreamEvent, None, FunctionCallBuilder | CustomCallBuilder]:
        tool = self._plan.toolbox.client_tool(event.name)
        if tool.custom:
            return (
                yield from self._start(lambda index: CustomCallBuilder(self._id("ctc_", index), index, event.id, tool))
            )
        return (
            yield from self._start(lambda index: FunctionCallBuilder(self._id("fc_", index), index, event.id, tool))
        )

    def _start(self, make: Callable[[int], S]) -> Generator[StreamEvent, None, S]:
        """Closes the open item and opens the one that `make` returns for the next output index."""
        yield from self._close("completed")
        self._open = builder = make(len(self._items))
        yield from builder.opened()
        return builder

    def _append(self, piece: str) -> Iterator[StreamEvent]:
        if self._open is not None:
            yield from self._open.appended(piece)

    def _close(self, status: ItemStatus) -> Iterator[StreamEvent]:
        builder, self._open = self._open, None
        if builder is not None:
            yield from builder.closed(status)
            self._items.append(builder.item(status))

    def _id(self, prefix: str, index: int) -> str:
        return item_id(prefix, self._plan.start.id, index)
