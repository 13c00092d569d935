"""The content parts of chat messages: OpenAI's, and those of other APIs that clients mix in.

After openai's Python SDK 3.54 (`types/chat/chat_completion_content_part_param.py`). Anthropic's blocks (Cursor sends
them), the part names of the Responses API and Mistral's thinking parts are read too.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from cortex.dialects.anthropic.blocks import BlockReader, read_block
from cortex.dialects.anthropic.body import BlockKind, ToolResultBlock, ToolUseBlock
from cortex.dialects.documents import data_uri_file
from cortex.dialects.history import begins, omitted, plain_text, texts_in
from cortex.dialects.images import Images
from cortex.dialects.json_body import decode_body
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import Part, Text, Thinking

__all__ = ["PartReader"]

_BLOCKS = ("image", "document", "tool_use", "tool_result")


class ImageUrl(Struct, frozen=True):
    url: str


class FileBody(Struct, frozen=True):
    file_data: str | None = None
    filename: str | None = None


class ChatPart(Struct, frozen=True):
    """One content part. A file's fields are nested in chat completions and flat in the Responses API."""

    type: str = "text"
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    file: FileBody | None = None
    file_data: str | None = None
    filename: str | None = None


class ThinkingPart(Struct, frozen=True):
    """A model's reasoning: `thinking` is text (Anthropic) or a list of text parts (Mistral)."""

    thinking: Any = None
    reasoning: Any = None
    text: Any = None


_KIND = msgspec.json.Decoder(BlockKind)
_PART = msgspec.json.Decoder(ChatPart)
_THINKING = msgspec.json.Decoder(ThinkingPart)
_TEXT = msgspec.json.Decoder(str)


class PartReader:
    """Reads the content of one request's messages. `names` holds the name of each tool call by id.

    `new` is set for the user's newest message: what can't be read of it is an error, elsewhere a placeholder.
    """

    def __init__(self, images: Images) -> None:
        self._images = images
        self._blocks = BlockReader(images)
        self.names = self._blocks.names

    def read(self, content: str | list[Raw] | dict[str, Any] | float | None, at: str, *, new: bool) -> list[Part]:
        """The parts of a message's content. Raises BadRequest or UnsupportedValue that names the part at fault."""
        if isinstance(content, dict) and "type" in content:
            content = [Raw(msgspec.json.encode(content))]
        if isinstance(content, list):
            parts = [self._part(raw, f"{at}.content[{index}]", new=new) for index, raw in enumerate(content)]
            return [part for several in parts for part in several if not isinstance(part, Text) or part.text]
        if new and not isinstance(content, str | None):
            raise BadRequest(f"{at}.content must be text or a list of parts", param=f"{at}.content")
        text = plain_text(content)
        return [Text(text)] if text else []

    def _part(self, raw: Raw, at: str, *, new: bool) -> list[Part]:
        if begins(raw, b'"'):
            return [Text(decode_body(_TEXT, raw, at))]
        kind = decode_body(_KIND, raw, at).type or "text"
        if kind in _BLOCKS:
            return self._block(raw, at, new=new)
        if kind in ("thinking", "reasoning"):
            thought = decode_body(_THINKING, raw, at)
            text = "\n".join(texts_in(thought.thinking or thought.reasoning or thought.text))
            return [Thinking(text)] if text else []
        if kind == "redacted_thinking":
            return []
        try:
            return [self._plain(decode_body(_PART, raw, at), kind, at, new=new)]
        except BadRequest:
            if new:
                raise
            shown = kind.removeprefix("input_").removesuffix("_url")
            return [] if shown in ("text", "output_text", "refusal") else [Text(omitted(shown))]

    def _block(self, raw: Raw, at: str, *, new: bool) -> list[Part]:
        match read_block(raw, at, new=new):
            case None:
                return []
            case ToolUseBlock() as block:
                return [self._blocks.call(block)]
            case ToolResultBlock() as block:
                return [self._blocks.result(block, at)]
            case block:
                return list(self._blocks.plain(block, at, new=new))

    def _plain(self, part: ChatPart, kind: str, at: str, *, new: bool) -> Part:
        match kind:
            case "text" | "input_text" | "output_text" if part.text is not None:
                return Text(part.text)
            case "refusal" if part.refusal is not None:
                return Text(part.refusal)
            case "image_url" | "input_image" if part.image_url is not None:
                url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
                return self._images.load(url, f"{at}.image_url", new=new)
            case "file" | "input_file" if data := (part.file.file_data if part.file else part.file_data):
                name = part.file.filename if part.file else part.filename
                return data_uri_file(data, name, at, new=new)
            case "text" | "input_text" | "output_text" | "refusal" | "image_url" | "input_image":
                raise BadRequest(f"{at} has no {kind}", param=at)
            case _:
                raise UnsupportedValue(f"{at}: content of type {kind!r} is not supported", param=at)
