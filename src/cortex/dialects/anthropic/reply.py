"""The pieces Anthropic's answers are made of, streamed or not, and its error envelope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from cortex.dialects.ids import make_id
from cortex.dialects.opaque_reasoning import seal
from cortex.errors import ContextLengthExceeded, CortexError
from cortex.wire.events import FinishReason

__all__ = [
    "ErrorReply",
    "MessageReply",
    "ReplyHead",
    "StopReason",
    "TextReply",
    "ThinkingReply",
    "ToolUseReply",
    "UsageReply",
    "anthropic_error",
    "error_reply",
    "signature",
    "stop_reason",
    "tool_use_id",
]

StopReason = Literal["end_turn", "stop_sequence", "tool_use", "max_tokens", "refusal"]

_STOP_REASONS: dict[FinishReason, StopReason] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """What an answer says of itself before the model has spoken; `model` is the client's own word for it."""

    id: str
    model: str
    thinking_hidden: bool = False

    @classmethod
    def of(cls, request_id: str, model: str, *, thinking_hidden: bool = False) -> ReplyHead:
        return cls(make_id("msg_", request_id), model, thinking_hidden)


class TextReply(Struct, frozen=True, tag="text"):
    text: str = ""


class ThinkingReply(Struct, frozen=True, tag="thinking"):
    thinking: str = ""
    signature: str = ""


class ToolUseReply(Struct, frozen=True, tag="tool_use"):
    """`input` is always there: Zed's reader has no default for it."""

    id: str
    name: str
    input: Raw = Raw(b"{}")


class UsageReply(Struct, frozen=True):
    """`input_tokens` excludes what came from the cache. Never null: readers in strict languages want integers."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    resumed: int | UnsetType = UNSET

    @classmethod
    def of(cls, prompt: int, cached: int, output: int, resumed: int = 0) -> UsageReply:
        return cls(max(0, prompt - cached), 0, cached, output, resumed or UNSET)


class MessageReply(Struct, frozen=True, tag="message"):
    id: str
    role: Literal["assistant"]
    model: str
    content: list[TextReply | ThinkingReply | ToolUseReply]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: UsageReply


def stop_reason(reason: FinishReason) -> StopReason:
    return _STOP_REASONS[reason]


def tool_use_id(call_id: str) -> str:
    """Anthropic's prefix for our own call ids; an id that the model made up (Kimi's hold the name) stays."""
    return "toolu_" + call_id.removeprefix("call_") if call_id.startswith("call_") else call_id


def signature(head: ReplyHead, thought: str) -> str:
    """Thought that is hidden travels in its signature, so that the next turn still has it."""
    return seal(thought if head.thinking_hidden else "")


class ErrorDetail(Struct, frozen=True):
    type: str
    message: str


class ErrorReply(Struct, frozen=True, tag="error"):
    error: ErrorDetail
    request_id: str


def error_reply(error: CortexError, request_id: str) -> ErrorReply:
    """The envelope, in the body of an HTTP error and in a stream's `error` event alike. `request_id` as in the header.

    Claude Code compacts its history when a message says "prompt is too long".
    """
    message = error.message
    if isinstance(error, ContextLengthExceeded) and not message.startswith("prompt is too long"):
        message = f"prompt is too long: {message}"
    kind = _ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return ErrorReply(ErrorDetail(kind, message), request_id)


def anthropic_error(error: CortexError, request_id: str) -> bytes:
    """The JSON body of an HTTP error."""
    return msgspec.json.encode(error_reply(error, request_id))
