"""Anthropic messages as the conversation that models know."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field

import msgspec
from msgspec import Raw

from cortex.dialects import images
from cortex.dialects.anthropic_body import (
    Block,
    DocumentBlock,
    ImageBlock,
    Kind,
    MessageBody,
    RedactedThinkingBlock,
    Source,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from cortex.dialects.bodies import decode_body
from cortex.dialects.sealed import unseal
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import Image, Message, Part, Text, Thinking, ToolCall, ToolResult

__all__ = ["Conversation", "system_message"]

logger = logging.getLogger(__name__)

_kind = msgspec.json.Decoder(Kind)
_known = {type_.__struct_config__.tag for type_ in Block.__args__}
_BILLING = re.compile(r"\A(x-anthropic-billing-header:.*?\bcch=)[^;\s]*", re.DOTALL)


def system_message(system: str | list[Raw] | None, *, normalise_billing: bool) -> list[Message]:
    """The `system` parameter as no or one message.

    Claude Code heads it with a billing line whose `cch` changes with every request: the prompt's first tokens would
    never be equal, nothing would be found in the prefix cache. `normalise_billing` fixes that word.
    """
    parts = [block.text for block in _blocks(system, "system") if isinstance(block, TextBlock)]
    if normalise_billing:
        parts = [_BILLING.sub(r"\g<1>00000", text) for text in parts]
    return [Message("system", [Text(text) for text in parts])] if parts else []


@dataclass(slots=True)
class Conversation:
    """Message bodies in, wire messages out; remembers the calls so that results know their tool's name."""

    messages: list[Message] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)

    def add(self, body: MessageBody, param: str) -> None:
        blocks = _blocks(body.content, f"{param}.content")
        if body.role == "assistant":
            self._add("assistant", [part for block in blocks for part in self._assistant_parts(block)])
            return
        # Results first: templates want them right behind the calls, whatever the client wrote beside them.
        results = [block for block in blocks if isinstance(block, ToolResultBlock)]
        self._add("tool", [self._result(block, param) for block in results])
        self._add(body.role, [part for block in blocks for part in _shown(block, param)])

    def _add(self, role: str, parts: list[Part]) -> None:
        if parts:
            self.messages.append(Message(role, parts))

    def _assistant_parts(self, block: Block) -> list[Part]:
        match block:
            case ThinkingBlock():
                text = block.thinking or unseal(block.signature or "")
                return [Thinking(text, block.signature)] if text else []
            case ToolUseBlock():
                self._names[block.id] = block.name
                return [ToolCall(block.id, block.name, bytes(block.input).decode())]
            case _:
                return list(_shown(block, "messages"))

    def _result(self, block: ToolResultBlock, param: str) -> ToolResult:
        inner = [part for item in _blocks(block.content, f"{param}.content") for part in _shown(item, param)]
        return ToolResult(block.tool_use_id, inner, self._names.get(block.tool_use_id), bool(block.is_error))


def _blocks(content: str | list[Raw] | None, param: str) -> list[Block]:
    """Content as blocks; blank text says nothing and is dropped, unknown blocks are skipped."""
    if isinstance(content, str):
        return [TextBlock(content)] if content.strip() else []
    blocks: list[Block] = []
    for index, raw in enumerate(content or []):
        kind = decode_body(raw, Kind, f"{param}[{index}]").type
        if kind not in _known:
            logger.debug("skipped a content block of type %s", kind)
            continue
        block = decode_body(raw, Block, f"{param}[{index}]")
        if not (isinstance(block, TextBlock) and not block.text.strip()):
            blocks.append(block)
    return blocks


def _shown(block: Block, param: str) -> list[Text | Image]:
    """Text and images; thinking, calls and results have their own places."""
    match block:
        case TextBlock():
            return [Text(block.text)]
        case ImageBlock():
            return [_image(block.source, f"{param}.source")]
        case DocumentBlock():
            return _document(block, param)
        case _:
            return []


def _image(source: Source, param: str) -> Image:
    if source.type == "base64":
        return images.from_base64(source.data, source.media_type, param=param)
    if source.type == "url":
        return images.from_url(source.url, param=param)
    raise UnsupportedValue(f"image source {source.type!r} is not supported: send base64", param=param)


def _document(block: DocumentBlock, param: str) -> list[Text | Image]:
    if block.source.type == "text":
        title = f"{block.title}\n\n" if block.title else ""
        return [Text(title + block.source.data)]
    if block.source.type == "content":
        inner = _blocks(block.source.content, f"{param}.source.content")
        return [part for item in inner for part in _shown(item, param)]
    raise UnsupportedValue(
        f"documents of source {block.source.type!r} can't be read here: send their text", param=f"{param}.source"
    )
