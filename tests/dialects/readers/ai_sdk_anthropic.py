"""The AI SDK's reading of Anthropic messages (opencode uses it), after the zod schemas of its anthropic package.

A chunk that fits no schema is lost or ends the stream; `nullish` fields may be null or absent.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tests.dialects.readers.frames import Said, frames

__all__ = ["read_anthropic"]


class StartUsage(Struct):
    input_tokens: float
    cache_creation_input_tokens: float | None = None
    cache_read_input_tokens: float | None = None


class StartMessage(Struct):
    usage: StartUsage
    id: str | None = None
    model: str | None = None


class MessageStart(Struct, tag="message_start"):
    message: StartMessage


class TextBlock(Struct, tag="text"):
    text: str


class ThinkingBlock(Struct, tag="thinking"):
    thinking: str


class ToolUseBlock(Struct, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any] | None = None


class BlockStart(Struct, tag="content_block_start"):
    index: int
    content_block: TextBlock | ThinkingBlock | ToolUseBlock


class TextDelta(Struct, tag="text_delta"):
    text: str


class ThinkingDelta(Struct, tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, tag="signature_delta"):
    signature: str


class InputDelta(Struct, tag="input_json_delta"):
    partial_json: str


class BlockDelta(Struct, tag="content_block_delta"):
    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputDelta


class BlockStop(Struct, tag="content_block_stop"):
    index: int


class EndDelta(Struct):
    stop_reason: str | None = None
    stop_sequence: str | None = None


class EndUsage(Struct):
    output_tokens: float
    input_tokens: float | None = None
    cache_creation_input_tokens: float | None = None
    cache_read_input_tokens: float | None = None


class MessageDelta(Struct, tag="message_delta"):
    delta: EndDelta
    usage: EndUsage


class MessageStop(Struct, tag="message_stop"):
    pass


class Ping(Struct, tag="ping"):
    pass


class AnthropicError(Struct):
    type: str
    message: str


class ErrorEvent(Struct, tag="error"):
    error: AnthropicError


AnthropicEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping | ErrorEvent


def read_anthropic(body: bytes) -> Said:
    said = Said()
    open_blocks: dict[int, list[str]] = {}
    for frame in frames(body):
        match msgspec.json.decode(frame.data, type=AnthropicEvent):
            case BlockStart(index=index, content_block=block):
                open_blocks[index] = [block.name if isinstance(block, ToolUseBlock) else "", ""]
            case BlockDelta(delta=TextDelta(text=text)):
                said.text += text
            case BlockDelta(delta=ThinkingDelta(thinking=thinking)):
                said.reasoning += thinking
            case BlockDelta(index=index, delta=InputDelta(partial_json=fragment)):
                open_blocks[index][1] += fragment
            case BlockStop(index=index):
                name, arguments = open_blocks.pop(index)
                if name:
                    said.add_call(name, arguments or "{}")
            case MessageDelta(delta=EndDelta(stop_reason=reason)):
                said.end = reason
            case MessageStop():
                said.ended = True
            case ErrorEvent(error=error):
                said.error, said.ended = error.message, True
    return said
