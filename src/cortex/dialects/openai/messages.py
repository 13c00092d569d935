"""OpenAI's chat messages to wire messages: the roles, content forms and deprecated forms that clients send.

After openai's Python SDK 3.54 (`types/chat/chat_completion_message_param.py`).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from cortex.dialects.custom_tools import wrap_input
from cortex.dialects.ids import make_id
from cortex.dialects.images import Images
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import Image, Message, Part, Role, Text, Thinking, ToolCall, ToolResult

__all__ = ["ChatMessage", "ChatMessageReader", "continues_final"]


class ImageUrl(Struct, frozen=True):
    url: str


class ChatPart(Struct, frozen=True):
    """One content part. The type names of the Responses API are accepted too, because clients mix the two APIs."""

    type: str = "text"
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None


class ChatFunctionCall(Struct, frozen=True):
    """`arguments` is JSON text; some clients send the object instead."""

    name: str
    arguments: str | dict[str, Any] | None = None


class ChatCustomCall(Struct, frozen=True):
    name: str
    input: str = ""


class ChatToolCall(Struct, frozen=True):
    id: str | None = None
    function: ChatFunctionCall | None = None
    custom: ChatCustomCall | None = None


class ChatMessage(Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ChatPart | str] | None = None
    name: str | None = None
    tool_calls: list[ChatToolCall] | None = None
    tool_call_id: str | None = None
    function_call: ChatFunctionCall | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None


class ChatMessageReader:
    """Reads the messages of one request. Keeps the name of each tool call by id, for the result that follows."""

    def __init__(self, images: Images, request_id: str) -> None:
        self._images = images
        self._request_id = request_id
        self._names: dict[str, str] = {}
        self._legacy_id = ""

    def read(self, bodies: list[ChatMessage]) -> list[Message]:
        """The wire messages. Raises BadRequest or UnsupportedValue that names the message and part at fault."""
        if not bodies:
            raise BadRequest("messages must not be empty", param="messages")
        return [self._message(body, f"messages[{index}]") for index, body in enumerate(bodies)]

    def _message(self, body: ChatMessage, at: str) -> Message:
        match body.role:
            case "tool" | "function":
                return Message("tool", [self._result(body, at)])
            case "assistant":
                return Message("assistant", self._assistant(body, at), name=body.name)
            case role:
                return Message(_role(role), list(self._content(body.content, at)), name=body.name)

    def _assistant(self, body: ChatMessage, at: str) -> list[Part]:
        thinking = body.reasoning_content or (body.reasoning if isinstance(body.reasoning, str) else None)
        parts: list[Part] = [Thinking(thinking)] if thinking else []
        parts += self._content(body.content, at)
        if body.refusal:
            parts.append(Text(body.refusal))
        for index, call in enumerate(body.tool_calls or []):
            parts.append(self._call(call, f"{at}.tool_calls[{index}]"))
        if body.function_call:
            self._legacy_id = make_id("call_", self._request_id, at)
            parts.append(self._function_call(self._legacy_id, body.function_call))
        return parts

    def _call(self, body: ChatToolCall, at: str) -> ToolCall:
        call_id = body.id or make_id("call_", self._request_id, at)
        if body.function:
            return self._function_call(call_id, body.function)
        if body.custom:
            return self._function_call(call_id, ChatFunctionCall(body.custom.name, wrap_input(body.custom.input)))
        raise BadRequest(f"{at} has neither function nor custom", param=at)

    def _function_call(self, call_id: str, body: ChatFunctionCall) -> ToolCall:
        self._names[call_id] = body.name
        arguments = body.arguments or {}
        text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
        return ToolCall(id=call_id, name=body.name, arguments=text)

    def _result(self, body: ChatMessage, at: str) -> ToolResult:
        """The result in a `tool` message, or in a deprecated `function` message, which answers the latest
        function_call."""
        call_id = body.tool_call_id or (self._legacy_id if body.role == "function" else "")
        name = self._names.get(call_id) or body.name
        return ToolResult(call_id=call_id, parts=self._content(body.content, at), name=name)

    def _content(self, content: str | list[ChatPart | str] | None, at: str) -> list[Text | Image]:
        if not content:
            return []
        if isinstance(content, str):
            return [Text(content)]
        parts = [self._part(part, f"{at}.content[{index}]") for index, part in enumerate(content)]
        return [part for part in parts if not isinstance(part, Text) or part.text]

    def _part(self, part: ChatPart | str, at: str) -> Text | Image:
        if isinstance(part, str):
            return Text(part)
        match part.type:
            case "text" | "input_text" | "output_text" if part.text is not None:
                return Text(part.text)
            case "refusal" if part.refusal is not None:
                return Text(part.refusal)
            case "image_url" | "input_image" if part.image_url is not None:
                url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
                return self._images.load(url, f"{at}.image_url")
            case "text" | "input_text" | "output_text" | "refusal" | "image_url" | "input_image":
                raise BadRequest(f"{at} has no {part.type}", param=at)
            case _:
                raise UnsupportedValue(f"{at}: content of type {part.type!r} is not supported", param=at)


def continues_final(messages: list[Message], asked: bool | None) -> bool:
    """Whether generation continues the last message instead of answering it (llama.cpp's assistant prefill,
    `tools/server/server-common.cpp`, oaicompat_chat_params_parse).

    `asked` is `continue_final_message`. A message with tool calls is never continued. Raises BadRequest when `asked` is
    True and the last message isn't the assistant's.
    """
    last = messages[-1]
    if last.role != "assistant":
        if asked:
            raise BadRequest("the last message isn't the assistant's, there is nothing to continue", param="messages")
        return False
    return asked is not False and not any(isinstance(part, ToolCall) for part in last.parts)


def _role(role: Literal["system", "developer", "user"]) -> Role:
    return role
