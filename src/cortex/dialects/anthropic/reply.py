"""JSON objects of Anthropic's answers, streamed and not, and its error body.

Shapes after anthropic's Python SDK 2.12 (`types/message.py`, `types/usage.py`, `types/stop_reason.py`); errors:
`_exceptions.py` and Anthropic's API reference, "Errors".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from cortex.dialects.ids import make_id
from cortex.dialects.opaque_reasoning import encode_opaque
from cortex.errors import ContextLengthExceeded, CortexError
from cortex.wire.events import FinishReason

__all__ = [
    "AnthropicErrorEnvelope",
    "MessageHead",
    "MessageReply",
    "StopReason",
    "TextReply",
    "ThinkingReply",
    "ToolUseReply",
    "UsageReply",
    "anthropic_error",
    "error_envelope",
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
class MessageHead:
    """The parts of an answer that are known before generation. `model` is the name that the client used."""

    id: str
    model: str
    thinking_hidden: bool = False

    @classmethod
    def of(cls, request_id: str, model: str, *, thinking_hidden: bool = False) -> MessageHead:
        return cls(make_id("msg_", request_id), model, thinking_hidden)


class TextReply(Struct, frozen=True, tag="text"):
    text: str = ""


class ThinkingReply(Struct, frozen=True, tag="thinking"):
    thinking: str = ""
    signature: str = ""


class ToolUseReply(Struct, frozen=True, tag="tool_use"):
    """`input` is always present: Zed requires it (crates/anthropic, `ResponseContent::ToolUse`)."""

    id: str
    name: str
    input: Raw = Raw(b"{}")


class UsageReply(Struct, frozen=True):
    """Token counts. `input_tokens` excludes cached tokens. No count is ever null: Zed fails on one (zed#63137)."""

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
    """A tool call's id with Anthropic's prefix. Ids that the model wrote itself (Kimi's contain the name) are kept."""
    return "toolu_" + call_id.removeprefix("call_") if call_id.startswith("call_") else call_id


def signature(head: MessageHead, thinking: str) -> str:
    """The signature of a thinking block. It carries the text when the client asked to omit it, so that the next turn
    has it again."""
    return encode_opaque(thinking if head.thinking_hidden else "")


class AnthropicErrorDetail(Struct, frozen=True):
    type: str
    message: str


class AnthropicErrorEnvelope(Struct, frozen=True, tag="error"):
    error: AnthropicErrorDetail
    request_id: str


def error_envelope(error: CortexError, request_id: str) -> AnthropicErrorEnvelope:
    """The error object, used as the body of an HTTP error and as the `error` event of a stream. `request_id` is that of
    the header.

    Claude Code compacts its history when the message contains "prompt is too long".
    """
    message = error.message
    if isinstance(error, ContextLengthExceeded) and not message.startswith("prompt is too long"):
        message = f"prompt is too long: {message}"
    kind = _ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return AnthropicErrorEnvelope(AnthropicErrorDetail(kind, message), request_id)


def anthropic_error(error: CortexError, request_id: str) -> bytes:
    """The JSON body of an HTTP error response."""
    return msgspec.json.encode(error_envelope(error, request_id))
