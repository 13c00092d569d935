"""Anthropic's non-streamed answers: the message and the token count.

Shapes after anthropic's Python SDK 2.12 (`types/message.py`, `types/message_tokens_count.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from cortex.dialects.anthropic.reply import (
    MessageHead,
    MessageReply,
    TextReply,
    ThinkingReply,
    ToolUseReply,
    UsageReply,
    signature,
    stop_reason,
    tool_use_id,
)
from cortex.wire.events import (
    ChoiceFinished,
    Event,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)

__all__ = ["CountCollector", "MessageCollector"]


@dataclass(slots=True)
class _Block:
    """A content block under construction. `pieces` are its text, its reasoning or its tool arguments."""

    kind: Literal["text", "thinking", "tool_use"]
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    complete: bool = True

    def reply(self, head: MessageHead) -> TextReply | ThinkingReply | ToolUseReply:
        content = "".join(self.pieces)
        match self.kind:
            case "text":
                return TextReply(content)
            case "thinking":
                return ThinkingReply("" if head.thinking_hidden else content, signature(head, content))
            case "tool_use":
                return ToolUseReply(self.id, self.name, Raw(content.encode() or b"{}"))


class MessageCollector:
    """Collector of a message: one content block per segment of the answer, in order, none of them empty.

    A call that was cut is left out: `input` is an object, which half of one can't be.
    """

    def __init__(self, head: MessageHead) -> None:
        self._head = head
        self._blocks: list[_Block] = []
        self._end = ChoiceFinished("stop")
        self._usage = Usage()

    def feed(self, part: int, events: Sequence[Event]) -> None:  # noqa: ARG002 - a Call with one request
        for event in events:
            self._take(event)

    def finish(self) -> bytes:
        usage = self._usage
        return msgspec.json.encode(
            MessageReply(
                id=self._head.id,
                role="assistant",
                model=self._head.model,
                content=[block.reply(self._head) for block in self._blocks if block.complete],
                stop_reason=stop_reason(self._end.reason),
                stop_sequence=self._end.stop_sequence,
                usage=UsageReply.of(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.resumed),
            )
        )

    def _take(self, event: Event) -> None:
        match event:
            case TextDelta(text=text) if text:
                self._segment("text").append(text)
            case ReasoningDelta(text=text) if text:
                self._segment("thinking").append(text)
            case ToolCallStart():
                self._blocks.append(_Block("tool_use", tool_use_id(event.id), event.name))
            case ToolCallArguments():
                self._blocks[-1].pieces.append(event.fragment)
            case ToolCallEnd():
                self._blocks[-1].complete = event.complete
            case ChoiceFinished():
                self._end = event
            case Finished():
                self._usage = event.usage
            case _:
                pass

    def _segment(self, kind: Literal["text", "thinking"]) -> list[str]:
        if not self._blocks or self._blocks[-1].kind != kind:
            self._blocks.append(_Block(kind))
        return self._blocks[-1].pieces


class CountReply(Struct, frozen=True):
    input_tokens: int


class CountCollector:
    """Collector of a token count: takes Started, returns `{"input_tokens": N}`."""

    def __init__(self) -> None:
        self._tokens = 0

    def feed(self, part: int, events: Sequence[Event]) -> None:  # noqa: ARG002 - a Call with one request
        for event in events:
            if isinstance(event, Started):
                self._tokens = event.prompt_tokens

    def finish(self) -> bytes:
        return msgspec.json.encode(CountReply(self._tokens))
