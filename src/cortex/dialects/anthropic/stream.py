"""Anthropic's event stream: strictly sequential content blocks, each started by its first non-empty delta.

`message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop`, with `ping`
anywhere. Never an empty block, an index used twice, a second message_start or a `[DONE]`: each of these has broken a
client (tests/dialects/test_interop_bugs.py). Event shapes after anthropic's Python SDK 2.12 (`types/raw_*_event.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from cortex.dialects import sse
from cortex.dialects.anthropic.reply import (
    MessageHead,
    MessageReply,
    StopReason,
    TextReply,
    ThinkingReply,
    ToolUseReply,
    UsageReply,
    error_envelope,
    signature,
    stop_reason,
    tool_use_id,
)
from cortex.errors import CortexError
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
)

__all__ = ["MessageRenderer"]


class MessageStart(Struct, frozen=True, tag="message_start"):
    message: MessageReply


class Ping(Struct, frozen=True, tag="ping"):
    pass


class BlockStart(Struct, frozen=True, tag="content_block_start"):
    index: int
    content_block: TextReply | ThinkingReply | ToolUseReply


class TextPiece(Struct, frozen=True, tag="text_delta"):
    text: str


class ThinkingPiece(Struct, frozen=True, tag="thinking_delta"):
    thinking: str


class SignaturePiece(Struct, frozen=True, tag="signature_delta"):
    signature: str


class InputPiece(Struct, frozen=True, tag="input_json_delta"):
    partial_json: str


Piece = TextPiece | ThinkingPiece | SignaturePiece | InputPiece


class BlockDelta(Struct, frozen=True, tag="content_block_delta"):
    index: int
    delta: Piece


class BlockStop(Struct, frozen=True, tag="content_block_stop"):
    index: int


class MessageEnd(Struct, frozen=True):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(Struct, frozen=True, tag="message_delta"):
    delta: MessageEnd
    usage: UsageReply


class MessageStop(Struct, frozen=True, tag="message_stop"):
    pass


_encode = msgspec.json.Encoder().encode


def _frame(event: Struct) -> bytes:
    """The event's name is in both lines: the SDK skips events without an `event:` line, Zed reads only the `data:`
    line."""
    return sse.event_frame(str(event.__struct_config__.tag), _encode(event))


_PING = _frame(Ping())


class MessageRenderer:
    """StreamRenderer of one message."""

    def __init__(self, request_id: str, head: MessageHead) -> None:
        self._request_id = request_id
        self._head = head
        self._index = -1
        self._open: Literal["text", "thinking", "tool_use"] | None = None
        self._thinking: list[str] = []
        self._input_sent = False
        self._end = ChoiceFinished("stop")

    def feed(self, part: int, events: Sequence[Event]) -> bytes:  # noqa: ARG002 - a Call with one request
        return b"".join([self._render(event) for event in events])

    def keepalive(self) -> bytes:
        """A ping, allowed before message_start too: SDKs drop it, its bytes keep the connection open during a load."""
        return _PING

    def fail(self, error: CortexError) -> bytes:
        """The error event, which ends the stream: no message_stop follows."""
        return _frame(error_envelope(error, self._request_id))

    def _render(self, event: Event) -> bytes:
        match event:
            case TextDelta(text=text) if text:
                return self._ensure("text") + self._delta(TextPiece(text))
            case ReasoningDelta(text=text) if text:
                return self._ensure("thinking") + self._thinking_delta(text)
            case ToolCallArguments(fragment=fragment) if fragment:
                self._input_sent = True
                return self._delta(InputPiece(fragment))
            case ToolCallStart():
                self._input_sent = False
                return self._start("tool_use", ToolUseReply(tool_use_id(event.id), event.name))
            case ToolCallEnd():
                return self._close()
            case Started():
                return _frame(MessageStart(self._message(event)))
            case ChoiceFinished():
                self._end = event
                return self._close()
            case Finished():
                return self._finish(event)
            case _:
                return b""

    def _message(self, event: Started) -> MessageReply:
        usage = UsageReply.of(event.prompt_tokens, event.cached_tokens, 0)
        return MessageReply(self._head.id, "assistant", self._head.model, [], None, None, usage)

    def _finish(self, event: Finished) -> bytes:
        counts = event.usage
        usage = UsageReply.of(counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens, counts.resumed)
        end = MessageEnd(stop_reason(self._end.reason), self._end.stop_sequence)
        return _frame(MessageDelta(end, usage)) + _frame(MessageStop())

    def _ensure(self, kind: Literal["text", "thinking"]) -> bytes:
        if self._open == kind:
            return b""
        return self._start(kind, TextReply() if kind == "text" else ThinkingReply())

    def _start(
        self, kind: Literal["text", "thinking", "tool_use"], block: TextReply | ThinkingReply | ToolUseReply
    ) -> bytes:
        closed = self._close()
        self._open = kind
        self._index += 1
        return closed + _frame(BlockStart(self._index, block))

    def _thinking_delta(self, text: str) -> bytes:
        self._thinking.append(text)
        return b"" if self._head.thinking_hidden else self._delta(ThinkingPiece(text))

    def _delta(self, piece: Piece) -> bytes:
        return _frame(BlockDelta(self._index, piece))

    def _close(self) -> bytes:
        """Ends the open block. A thinking block gets its signature; a call without arguments gets `{}`, because Zed
        parses the concatenated arguments."""
        kind, self._open = self._open, None
        if kind is None:
            return b""
        last = b""
        if kind == "thinking":
            last = self._delta(SignaturePiece(signature(self._head, "".join(self._thinking))))
            self._thinking = []
        elif kind == "tool_use" and not self._input_sent:
            last = self._delta(InputPiece("{}"))
        return last + _frame(BlockStop(self._index))
