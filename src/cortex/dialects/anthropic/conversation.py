"""Anthropic's messages to wire messages."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import get_args

import msgspec
from msgspec import Raw

from cortex.dialects.anthropic.body import (
    BlockKind,
    BlockSource,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    MessageParam,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from cortex.dialects.images import Images
from cortex.dialects.json_body import decode_body
from cortex.dialects.opaque_reasoning import decode_opaque
from cortex.errors import UnsupportedValue
from cortex.wire.inference import Image, Message, Part, Role, Text, Thinking, ToolCall, ToolResult

__all__ = ["Conversation", "system_message"]

logger = logging.getLogger(__name__)

_KIND = msgspec.json.Decoder(BlockKind)
_BLOCK: msgspec.json.Decoder[ContentBlock] = msgspec.json.Decoder(ContentBlock)
_KNOWN = {type_.__struct_config__.tag for type_ in get_args(ContentBlock)}
_BILLING = re.compile(r"\A(x-anthropic-billing-header:.*?\bcch=)[^;\s]*", re.DOTALL)


def system_message(system: str | list[Raw] | None, *, normalise_billing: bool) -> list[Message]:
    """The `system` parameter as a list of one message, or of none if it is empty.

    Claude Code puts a billing line first whose `cch` value changes with every request, so that the prefix cache would
    never match (llama.cpp#21793, vllm#36829). `normalise_billing` replaces that value with a constant.
    """
    parts = [block.text for block in _blocks(system, "system") if isinstance(block, TextBlock)]
    if normalise_billing:
        parts = [_BILLING.sub(r"\g<1>00000", text) for text in parts]
    return [Message("system", [Text(text) for text in parts])] if parts else []


@dataclass(slots=True)
class Conversation:
    """Collects the wire messages of a request. Keeps the name of each tool call by id, for the result that follows."""

    images: Images
    messages: list[Message] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)

    def add(self, body: MessageParam, param: str) -> None:
        blocks = _blocks(body.content, f"{param}.content")
        if body.role == "assistant":
            self._add("assistant", [part for block in blocks for part in self._assistant_parts(block, param)])
            return
        # Results first: chat templates expect them directly after the calls, but clients may put text before them.
        results = [block for block in blocks if isinstance(block, ToolResultBlock)]
        self._add("tool", [self._result(block, param) for block in results])
        self._add(body.role, [part for block in blocks for part in self._plain(block, param)])

    def _add(self, role: Role, parts: list[Part]) -> None:
        if parts:
            self.messages.append(Message(role, parts))

    def _assistant_parts(self, block: ContentBlock, param: str) -> list[Part]:
        match block:
            case ThinkingBlock():
                text = block.thinking or decode_opaque(block.signature or "")
                return [Thinking(text, block.signature)] if text else []
            case ToolUseBlock():
                self._names[block.id] = block.name
                return [ToolCall(block.id, block.name, bytes(block.input).decode())]
            case _:
                return list(self._plain(block, param))

    def _result(self, block: ToolResultBlock, param: str) -> ToolResult:
        inner = [part for item in _blocks(block.content, f"{param}.content") for part in self._plain(item, param)]
        return ToolResult(block.tool_use_id, inner, self._names.get(block.tool_use_id), bool(block.is_error))

    def _plain(self, block: ContentBlock, param: str) -> list[Text | Image]:
        """The text and images of a block; none for thinking, tool calls and tool results."""
        match block:
            case TextBlock():
                return [Text(block.text)]
            case ImageBlock():
                return [self._image(block.source, param)]
            case DocumentBlock():
                return self._document(block, param)
            case _:
                return []

    def _image(self, source: BlockSource, param: str) -> Image:
        if source.type == "base64":
            return self.images.decode(source.data, source.media_type, param)
        if source.type == "url":
            return self.images.load(source.url, param)
        raise UnsupportedValue(f"an image source of type {source.type!r} is not supported: send base64", param=param)

    def _document(self, block: DocumentBlock, param: str) -> list[Text | Image]:
        if block.source.type == "text":
            title = f"{block.title}\n\n" if block.title else ""
            return [Text(title + block.source.data)]
        if block.source.type == "content":
            inner = _blocks(block.source.content, f"{param}.source.content")
            return [part for item in inner for part in self._plain(item, param)]
        raise UnsupportedValue(
            f"a document source of type {block.source.type!r} is not supported: send its text", param=param
        )


def _blocks(content: str | list[Raw] | None, param: str) -> list[ContentBlock]:
    """The content blocks. Blank text and blocks of unknown types are dropped."""
    if isinstance(content, str):
        return [TextBlock(content)] if content.strip() else []
    blocks: list[ContentBlock] = []
    for index, raw in enumerate(content or []):
        kind = decode_body(_KIND, raw, f"{param}[{index}]").type
        if kind not in _KNOWN:
            logger.debug("skipping content block of unknown type %s", kind)
            continue
        block = decode_body(_BLOCK, raw, f"{param}[{index}]")
        if not (isinstance(block, TextBlock) and not block.text.strip()):
            blocks.append(block)
    return blocks
