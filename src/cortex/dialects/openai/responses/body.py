"""The request body of OpenAI's `/v1/responses`, after openai's Python SDK 3.54
(`types/responses/response_create_params.py`) and Codex (codex-rs/codex-api, ResponsesApiRequest). Unknown fields, item
types and tool types are ignored.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Raw, Struct

from cortex.dialects.custom_tools import GrammarBody
from cortex.dialects.fields import GenerationBody
from cortex.dialects.history import CallId

__all__ = [
    "ContentPart",
    "CustomCallItem",
    "CustomOutputItem",
    "FunctionCallItem",
    "FunctionOutputItem",
    "InputItem",
    "ItemKind",
    "MessageItem",
    "ReasoningItem",
    "ResponsesBody",
    "ResponsesTool",
    "ResponsesToolChoice",
    "ResponsesToolFormat",
]


class ItemKind(Struct, frozen=True):
    """The fields that tell the kind of an item. An item without a type is a message."""

    type: str | None = None
    role: str | None = None


class ImageUrl(Struct, frozen=True):
    url: str


class ContentPart(Struct, frozen=True):
    """A part of a message, a tool's output or a reasoning summary. `image_url` is a string, or an object as in chat
    messages."""

    type: str = "input_text"
    text: str | None = None
    refusal: str | None = None
    image_url: str | ImageUrl | None = None
    file_data: str | None = None
    filename: str | None = None


class MessageItem(Struct, frozen=True, tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[ContentPart] | None = None


class ReasoningItem(Struct, frozen=True, tag="reasoning"):
    """A reasoning item of an earlier answer. Each field may be missing: Codex drops `content`, Copilot `summary`. They
    are lists of parts with a `text`."""

    summary: Any = None
    content: Any = None
    encrypted_content: Any = None


class FunctionCallItem(Struct, frozen=True, tag="function_call"):
    """`arguments` is JSON text by the API; what clients send back may be anything."""

    call_id: CallId
    name: str
    arguments: Any = None
    namespace: str | None = None


class CustomCallItem(Struct, frozen=True, tag="custom_tool_call"):
    call_id: CallId
    name: str
    input: Any = None
    namespace: str | None = None


class FunctionOutputItem(Struct, frozen=True, tag="function_call_output"):
    """`output` is text or a list of content parts by the API; clients send their tools' objects and numbers too."""

    call_id: CallId
    output: Raw = Raw(b"null")


class CustomOutputItem(Struct, frozen=True, tag="custom_tool_call_output"):
    call_id: CallId
    output: Raw = Raw(b"null")


InputItem = MessageItem | ReasoningItem | FunctionCallItem | CustomCallItem | FunctionOutputItem | CustomOutputItem


class ResponsesToolFormat(GrammarBody, frozen=True):
    """A custom tool's `format`. Type `text` has no grammar; chat completions nest it in `grammar`."""

    type: str = "text"
    grammar: GrammarBody | None = None


class NestedTool(Struct, frozen=True):
    """What chat completions nest in a tool."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: ResponsesToolFormat | None = None


class ResponsesTool(Struct, frozen=True):
    """A tool: `function`, `custom`, `namespace` (whose `tools` are functions), or a hosted tool, which is skipped.

    The nested form of chat completions (`function: {…}`) is read too, because clients mix the two APIs.
    """

    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: ResponsesToolFormat | None = None
    tools: list[ResponsesTool] | None = None
    function: NestedTool | None = None
    custom: NestedTool | None = None

    @property
    def flat(self) -> ResponsesTool:
        inner = self.function or self.custom
        if inner is None or self.name:
            return self
        return ResponsesTool(self.type, inner.name, inner.description, inner.parameters, inner.strict, inner.format)


class ToolRef(Struct, frozen=True):
    type: str = "function"
    name: str = ""
    namespace: str | None = None


class NamedChoice(Struct, frozen=True):
    name: str


class ResponsesToolChoice(Struct, frozen=True):
    """`function` and `custom` are the nested forms of chat completions; the types `any`, `tool` … Anthropic's."""

    type: str
    name: str = ""
    namespace: str | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list[ToolRef] = []
    function: NamedChoice | None = None
    custom: NamedChoice | None = None


class ResponsesBody(GenerationBody, frozen=True, kw_only=True):
    """`store` defaults to true, as in OpenAI's API. `background`, `conversation` and `prompt` are rejected when set.

    `messages` is chat's: a body with it and without input is told where to go."""

    input: str | list[Raw] | None = None
    instructions: str | list[Raw] | None = None
    tools: list[Raw] | None = None
    tool_choice: str | ResponsesToolChoice | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | int | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    background: bool | None = None
    conversation: Any = None
    messages: Any = None
    prompt: Any = None
