"""The request body of Anthropic's `/v1/messages`, after anthropic's Python SDK 2.12 (`types/message_create_params.py`).

Unknown fields and unknown block types are ignored: clients send new ones before servers know them, and rejecting them
("Extra inputs are not permitted") is the most reported gateway failure (claude-code#21612, litellm#26240).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from cortex.dialects.fields import GenerationBody
from cortex.dialects.history import CallId

__all__ = [
    "BlockKind",
    "BlockSource",
    "ContentBlock",
    "DocumentBlock",
    "ImageBlock",
    "MessageParam",
    "MessagesBody",
    "TextBlock",
    "ThinkingBlock",
    "ToolChoiceParam",
    "ToolParam",
    "ToolResultBlock",
    "ToolUseBlock",
]


class BlockKind(Struct, frozen=True):
    """The field that every content block has. Blocks of unknown types (redacted thinking, server tools) are skipped."""

    type: str = ""


class TextBlock(Struct, frozen=True, tag="text"):
    text: str


class BlockSource(Struct, frozen=True):
    """Where an image or a document is. Type `base64` has `data`, `url` has `url`, `text` has its text in `data`,
    `content` has content blocks."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    content: str | list[Raw] = ""


class ImageBlock(Struct, frozen=True, tag="image"):
    source: BlockSource


class DocumentBlock(Struct, frozen=True, tag="document"):
    source: BlockSource
    title: str | None = None


class ThinkingBlock(Struct, frozen=True, tag="thinking"):
    thinking: str = ""
    signature: str | None = None


class ToolUseBlock(Struct, frozen=True, tag="tool_use"):
    """`input` is kept as the JSON text that the client sent."""

    id: CallId
    name: str
    input: Raw = Raw(b"{}")


class ToolResultBlock(Struct, frozen=True, tag="tool_result"):
    """`content` is text or a list of blocks by the API; clients send their tools' objects and numbers too."""

    tool_use_id: CallId
    content: Raw = Raw(b"null")
    is_error: bool | None = None


ContentBlock = TextBlock | ImageBlock | DocumentBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock


class MessageParam(Struct, frozen=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[Raw] | None = None


class FunctionParam(Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolParam(Struct, frozen=True):
    """A tool. Anthropic's server tools (`web_search_20250305` …) have a `type` and no `input_schema`.

    The type `function` is OpenAI's, whose clients mix the APIs, nested (`function`) or flat (`parameters`).
    """

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    parameters: dict[str, Any] | None = None
    function: FunctionParam | None = None

    @property
    def native(self) -> ToolParam:
        """The tool in Anthropic's own form."""
        if self.type != "function" or self.input_schema is not None:
            return self
        inner = self.function or FunctionParam(self.name, self.description, self.parameters, self.strict)
        schema = inner.parameters or {"type": "object", "properties": {}}
        return ToolParam(inner.name, None, inner.description, schema, inner.strict)


class ToolChoiceParam(Struct, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class MessagesBody(GenerationBody, frozen=True, kw_only=True):
    """`max_tokens` is optional here: count_tokens has none, and the default is the rest of the context."""

    model: str
    messages: list[MessageParam]
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    system: str | list[Raw] | None = None
    tools: list[ToolParam] | None = None
    tool_choice: ToolChoiceParam | None = None
    top_k: int | None = None
    metadata: Raw = Raw(b"null")
