"""What a client may send to OpenAI's `/v1/responses`. Unknown fields, item types and tool types are not errors."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Raw, Struct

from cortex.dialects.custom_tools import GrammarBody
from cortex.dialects.openai.fields import GenerationBody

__all__ = [
    "Body",
    "ContentPart",
    "CustomCallItem",
    "CustomOutputItem",
    "FunctionCallItem",
    "FunctionOutputItem",
    "Item",
    "Kind",
    "MessageItem",
    "ReasoningBody",
    "ReasoningItem",
    "ReferenceItem",
    "TextBody",
    "TextFormatBody",
    "ToolBody",
    "ToolChoiceBody",
]


class Kind(Struct, frozen=True):
    """An item without a type is a message."""

    type: str | None = None
    role: str | None = None


class ContentPart(Struct, frozen=True):
    """A piece of a message, a tool's output or a reasoning summary; `image_url` is a string here."""

    type: str = "input_text"
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    file_data: str | None = None
    filename: str | None = None


class MessageItem(Struct, frozen=True, tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[ContentPart] | None = None


class ReasoningItem(Struct, frozen=True, tag="reasoning"):
    """Each field may be missing on replay: Codex strips `content`, Copilot `summary`, Zed keeps all."""

    summary: list[ContentPart] | None = None
    content: list[ContentPart] | None = None
    encrypted_content: str | None = None


class FunctionCallItem(Struct, frozen=True, tag="function_call"):
    call_id: str
    name: str
    arguments: str = "{}"
    namespace: str | None = None


class CustomCallItem(Struct, frozen=True, tag="custom_tool_call"):
    call_id: str
    name: str
    input: str = ""
    namespace: str | None = None


class FunctionOutputItem(Struct, frozen=True, tag="function_call_output"):
    call_id: str
    output: str | list[ContentPart] | None = None


class CustomOutputItem(Struct, frozen=True, tag="custom_tool_call_output"):
    call_id: str
    output: str | list[ContentPart] | None = None


class ReferenceItem(Struct, frozen=True, tag="item_reference"):
    id: str = ""


Item = (
    MessageItem
    | ReasoningItem
    | FunctionCallItem
    | CustomCallItem
    | FunctionOutputItem
    | CustomOutputItem
    | ReferenceItem
)


class CustomFormat(GrammarBody, frozen=True):
    """A custom tool's `format`; `text` has no definition."""

    type: str = "text"


class ToolBody(Struct, frozen=True):
    """`function`, `custom`, `namespace` (which holds functions), or a hosted tool that is skipped."""

    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: CustomFormat | None = None
    tools: list[ToolBody] | None = None


class ToolRef(Struct, frozen=True):
    type: str = "function"
    name: str = ""
    namespace: str | None = None


class ToolChoiceBody(Struct, frozen=True):
    type: str
    name: str = ""
    namespace: str | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list[ToolRef] = []


class ReasoningBody(Struct, frozen=True):
    effort: str | None = None
    summary: str | None = None


class TextFormatBody(Struct, frozen=True):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextBody(Struct, frozen=True):
    format: TextFormatBody | None = None


class Body(GenerationBody, frozen=True, kw_only=True):
    """`store` is on unless refused, as at OpenAI. `background`, `conversation` and
    `prompt` are refused when they are set."""

    input: str | list[Raw] | None = None
    instructions: str | list[Raw] | None = None
    tools: list[Raw] | None = None
    tool_choice: str | ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    top_logprobs: int | None = None
    reasoning: ReasoningBody | None = None
    text: TextBody | None = None
    include: list[str] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    chat_template_kwargs: dict[str, Any] | None = None
