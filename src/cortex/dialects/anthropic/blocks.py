"""Anthropic's content blocks to the parts of wire messages. Chat completions, whose clients mix in such blocks, share
it."""

from __future__ import annotations

import logging
from typing import Any, get_args

import msgspec
from msgspec import Raw

from cortex.dialects.anthropic.body import (
    BlockKind,
    BlockSource,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from cortex.dialects.documents import text_file
from cortex.dialects.history import begins, made_of_parts, object_arguments, omitted, plain_text
from cortex.dialects.images import Images
from cortex.dialects.json_body import decode_body
from cortex.dialects.opaque_reasoning import decode_opaque
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import Image, Text, Thinking, ToolCall, ToolResult

__all__ = ["BlockReader", "read_block", "read_blocks"]

logger = logging.getLogger(__name__)

_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_TEXT = msgspec.json.Decoder(str)
_RAWS = msgspec.json.Decoder(list[Raw])
_KIND = msgspec.json.Decoder(BlockKind)
_BLOCK: msgspec.json.Decoder[ContentBlock] = msgspec.json.Decoder(ContentBlock)
_KNOWN = {type_.__struct_config__.tag for type_ in get_args(ContentBlock)}


def read_blocks(content: str | list[Raw] | None, param: str, *, new: bool = True) -> list[ContentBlock]:
    """The content blocks. Blank text and blocks of unknown types are dropped. A malformed block is an error in new
    input and a placeholder in the history."""
    if isinstance(content, str):
        return [TextBlock(content)] if content.strip() else []
    blocks = [read_block(raw, f"{param}[{index}]", new=new) for index, raw in enumerate(content or [])]
    return [block for block in blocks if block is not None]


def read_block(raw: Raw, param: str, *, new: bool = True) -> ContentBlock | None:
    """The block; None for blank text and for a block of an unknown type."""
    kind = decode_body(_KIND, raw, param).type
    if kind not in _KNOWN:
        logger.debug("skipping content block of unknown type %s", kind)
        return None
    try:
        block = decode_body(_BLOCK, raw, param)
    except BadRequest:
        if new:
            raise
        return None if kind == "text" else TextBlock(omitted(kind))
    return None if isinstance(block, TextBlock) and not block.text.strip() else block


def _text_block(raw: Raw, param: str) -> TextBlock | None:
    """The block of a bare string in a list of blocks."""
    return TextBlock(decode_body(_TEXT, raw, param)) if begins(raw, b'"') else None


class BlockReader:
    """Reads the blocks of one request. `names` holds the name of each tool call by id, for the result that follows.

    `new` is set for blocks of the user's newest message: what can't be read of them is an error, elsewhere a
    placeholder.
    """

    def __init__(self, images: Images) -> None:
        self._images = images
        self.names: dict[str, str] = {}

    def call(self, block: ToolUseBlock) -> ToolCall:
        self.names[str(block.id)] = block.name
        given = bytes(block.input).decode()
        arguments = object_arguments(
            given if given.lstrip().startswith("{") else decode_body(_ANY, block.input, "input")
        )
        return ToolCall(str(block.id), block.name, arguments)

    def thinking(self, block: ThinkingBlock) -> list[Thinking]:
        text = block.thinking or decode_opaque(block.signature or "")
        return [Thinking(text, block.signature)] if text else []

    def result(self, block: ToolResultBlock, param: str) -> ToolResult:
        call_id = str(block.tool_use_id)
        parts = self._result_parts(block.content, f"{param}.content")
        return ToolResult(call_id, parts, self.names.get(call_id), bool(block.is_error))

    def _result_parts(self, content: Raw, param: str) -> list[Text | Image]:
        if begins(content, b"[") and made_of_parts(raws := decode_body(_RAWS, content, param)):
            blocks = [_text_block(raw, param) or read_block(raw, param, new=False) for raw in raws]
            return [part for block in blocks if block for part in self.plain(block, param, new=False)]
        text = plain_text(decode_body(_ANY, content, param))
        return [Text(text)] if text.strip() else []

    def plain(self, block: ContentBlock, param: str, *, new: bool) -> list[Text | Image]:
        """The text and images of a block; none for thinking, tool calls and tool results."""
        match block:
            case TextBlock():
                return [Text(block.text)]
            case ImageBlock():
                return [self._image(block.source, param, new=new)]
            case DocumentBlock():
                return self._document(block, param, new=new)
            case _:
                return []

    def _image(self, source: BlockSource, param: str, *, new: bool) -> Text | Image:
        if source.type == "base64":
            return self._images.decode(source.data, source.media_type, param, new=new)
        if source.type == "url":
            return self._images.load(source.url, param, new=new)
        if not new:
            return Text(omitted("image"))
        raise UnsupportedValue(f"an image source of type {source.type!r} is not supported: send base64", param=param)

    def _document(self, block: DocumentBlock, param: str, *, new: bool) -> list[Text | Image]:
        source = block.source
        if source.type == "text":
            return [Text(f"{block.title}\n\n{source.data}" if block.title else source.data)]
        if source.type == "content":
            inner = read_blocks(source.content, f"{param}.source.content", new=new)
            return [part for item in inner for part in self.plain(item, param, new=new)]
        if source.type == "base64":
            return [text_file(source.data, source.media_type, block.title, param, new=new)]
        if not new:
            return [Text(omitted("document", block.title))]
        raise UnsupportedValue(
            f"a document source of type {source.type!r} is not supported: send its text", param=param
        )
