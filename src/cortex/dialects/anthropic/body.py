"""What an Anthropic client may send to `/v1/messages`. Unknown fields and unknown block types are not errors:
clients are ahead of every server ("Extra inputs are not permitted" is the most reported gateway failure).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

__all__ = [
    "Block",
    "Body",
    "DocumentBlock",
    "ImageBlock",
    "Kind",
    "MessageBody",
    "OutputConfig",
    "OutputFormatBody",
    "Source",
    "TextBlock",
    "ThinkingBlock",
    "ThinkingConfig",
    "ToolBody",
    "ToolChoiceBody",
    "ToolResultBlock",
    "ToolUseBlock",
]


class Kind(Struct, frozen=True):
    """The one field that every block has; what we don't know (redacted thinking, server tools) is skipped by it."""

    type: str = ""


class TextBlock(Struct, frozen=True, tag="text"):
    text: str


class Source(Struct, frozen=True):
    """Of an image or a document: `base64` has `data`, `url` has `url`, `text` has `data` as it is."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    content: str | list[Raw] = ""


class ImageBlock(Struct, frozen=True, tag="image"):
    source: Source


class DocumentBlock(Struct, frozen=True, tag="document"):
    source: Source
    title: str | None = None


class ThinkingBlock(Struct, frozen=True, tag="thinking"):
    thinking: str = ""
    signature: str | None = None


class ToolUseBlock(Struct, frozen=True, tag="tool_use"):
    """`input` stays the JSON text that the client sent."""

    id: str
    name: str
    input: Raw = Raw(b"{}")


class ToolResultBlock(Struct, frozen=True, tag="tool_result"):
    tool_use_id: str
    content: str | list[Raw] | None = None
    is_error: bool | None = None


Block = TextBlock | ImageBlock | DocumentBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock


class MessageBody(Struct, frozen=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[Raw] | None = None


class ToolBody(Struct, frozen=True):
    """Server tools (`web_search_20250305` and the like) come without a schema."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoiceBody(Struct, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(Struct, frozen=True):
    """`display: "omitted"` hides the text and keeps the block, whose signature then carries it."""

    type: str
    budget_tokens: int | None = None
    display: str | None = None


class OutputFormatBody(Struct, frozen=True):
    type: str
    schema: dict[str, Any] = {}


class OutputConfig(Struct, frozen=True):
    effort: str | None = None
    format: OutputFormatBody | None = None


class Body(Struct, frozen=True):
    """`max_tokens` is optional here: the count_tokens route has none, and the rest of the context is a fair default."""

    model: str
    messages: list[MessageBody]
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    system: str | list[Raw] | None = None
    tools: list[ToolBody] | None = None
    tool_choice: ToolChoiceBody | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormatBody | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Raw = Raw(b"null")
    stream: bool | None = None
