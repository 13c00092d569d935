"""Anthropic's event stream: strictly sequential content blocks, each opened by its first real delta.

`message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop`, with `ping`
anywhere. Never an empty block, an index used twice, a second message_start or a `[DONE]`: each has broken a client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from cortex.dialects import sse
from cortex.dialects.anthropic.reply import (
    MessageReply,
    ReplyHead,
    StopReason,
    TextReply,
    ThinkingReply,
    ToolUseReply,
    UsageReply,
    error_reply,
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
    """Every event is named twice: the SDK skips those without an `event:` line, Zed reads only the `data:` line."""
    return sse.event_frame(str(event.__struct_config__.tag), _encode(event))


_PING = _frame(Ping())


class MessageRenderer:
    """Events of one answer in, its SSE bytes out; see `base.StreamRenderer`."""

    def __init__(self, request_id: str, head: ReplyHead) -> None:
        self._request_id = request_id
        self._head = head
        self._index = -1
        self._open: Literal["text", "thinking", "tool_use"] | None = None
        self._thought: list[str] = []
        self._input_sent = False
        self._end = ChoiceFinished("stop")

    def feed(self, part: int, events: Sequence[Event]) -> bytes:  # noqa: ARG002 - a Call with one request
        return b"".join([self._render(event) for event in events])

    def keepalive(self) -> bytes:
        """A ping, also before message_start: the SDKs drop it, and the bytes hold the connection during a load."""
        return _PING

    def fail(self, error: CortexError) -> bytes:
        """The error event is the end: no message_stop follows."""
        return _frame(error_reply(error, self._request_id))

    def _render(self, event: Event) -> bytes:
        match event:
            case TextDelta(text=text) if text:
                return self._ensure("text") + self._delta(TextPiece(text))
            case ReasoningDelta(text=text) if text:
                return self._ensure("thinking") + self._think(text)
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
        said = event.usage
        usage = UsageReply.of(said.prompt_tokens, said.cached_tokens, said.completion_tokens, said.resumed)
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

    def _think(self, text: str) -> bytes:
        self._thought.append(text)
        return b"" if self._head.thinking_hidden else self._delta(ThinkingPiece(text))

    def _delta(self, piece: Piece) -> bytes:
        return _frame(BlockDelta(self._index, piece))

    def _close(self) -> bytes:
        """Ends the open block: a thought with its signature, a call without arguments with `{}`, which Zed parses."""
        kind, self._open = self._open, None
        if kind is None:
            return b""
        last = b""
        if kind == "thinking":
            last = self._delta(SignaturePiece(signature(self._head, "".join(self._thought))))
            self._thought = []
        elif kind == "tool_use" and not self._input_sent:
            last = self._delta(InputPiece("{}"))
        return last + _frame(BlockStop(self._index))
