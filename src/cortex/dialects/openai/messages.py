"""OpenAI's chat messages to wire messages: the roles, content forms and deprecated forms that clients send.

After openai's Python SDK 3.54 (`types/chat/chat_completion_message_param.py`).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from cortex.dialects.custom_tools import wrap_input
from cortex.dialects.history import CallId, made_of_parts, newest_input, object_arguments, plain_text
from cortex.dialects.ids import make_id
from cortex.dialects.images import Images
from cortex.dialects.json_body import decode_body
from cortex.dialects.openai.parts import PartReader
from cortex.errors import BadRequest
from cortex.wire.inference import Image, Message, Part, Role, Text, Thinking, ToolCall, ToolResult

__all__ = ["ChatMessage", "ChatMessageReader", "continues_final"]

_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class ChatFunctionCall(Struct, frozen=True):
    """`arguments` is JSON text by the API; what clients send back may be anything."""

    name: str
    arguments: Any = None


class ChatCustomCall(Struct, frozen=True):
    name: str
    input: Any = None


class ChatToolCall(Struct, frozen=True):
    """`name` and `arguments` beside `id` are the flat form of the Responses API."""

    id: CallId | None = None
    function: ChatFunctionCall | None = None
    custom: ChatCustomCall | None = None
    name: str | None = None
    arguments: Any = None


class ChatMessage(Struct, frozen=True):
    """`content` is text or a list of parts by the API; clients send their tools' objects and numbers too."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Raw] | dict[str, Any] | int | float | bool | None = None
    name: str | None = None
    tool_calls: list[ChatToolCall] | None = None
    tool_call_id: CallId | None = None
    function_call: ChatFunctionCall | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None


class ChatMessageReader:
    """Reads the messages of one request. Keeps the name of each tool call by id, for the result that follows."""

    def __init__(self, images: Images, request_id: str) -> None:
        self._parts = PartReader(images)
        self._request_id = request_id
        self._names = self._parts.names
        self._legacy_id = ""

    def read(self, bodies: list[ChatMessage]) -> list[Message]:
        """The wire messages. Raises BadRequest or UnsupportedValue that names the message and part at fault."""
        if not bodies:
            raise BadRequest("messages must not be empty", param="messages")
        newest = newest_input([body.role for body in bodies])
        messages: list[Message] = []
        for index, body in enumerate(bodies):
            messages += self._read(body, f"messages[{index}]", new=index == newest)
        return messages

    def _read(self, body: ChatMessage, at: str, *, new: bool) -> list[Message]:
        match body.role:
            case "tool" | "function":
                return [Message("tool", self._results(body, at))]
            case "assistant":
                return [Message("assistant", self._assistant(body, at), name=body.name)]
            case role if isinstance(body.content, str):
                return [Message(_role(role), [Text(body.content)] if body.content else [], name=body.name)]
            case role:
                parts = self._parts.read(body.content, at, new=new)
                results: list[Part] = [part for part in parts if isinstance(part, ToolResult)]
                said: list[Part] = [part for part in parts if isinstance(part, Text | Image)]
                told = [Message(_role(role), said, name=body.name)] if said or not results else []
                return [*([Message("tool", results)] if results else []), *told]

    def _assistant(self, body: ChatMessage, at: str) -> list[Part]:
        thoughts = [text for text in (body.reasoning_content, body.reasoning) if text and isinstance(text, str)]
        parts: list[Part] = [Thinking(text) for text in thoughts[:1]]
        parts += [part for part in self._parts.read(body.content, at, new=False) if not isinstance(part, ToolResult)]
        if body.refusal:
            parts.append(Text(body.refusal))
        told = {part.id for part in parts if isinstance(part, ToolCall)}  # as blocks; some clients send both forms
        for index, call in enumerate(body.tool_calls or []):
            if call.id is None or str(call.id) not in told:
                parts.append(self._call(call, f"{at}.tool_calls[{index}]"))
        if body.function_call:
            self._legacy_id = make_id("call_", self._request_id, at)
            parts.append(self._function_call(self._legacy_id, body.function_call.name, body.function_call.arguments))
        return parts

    def _call(self, body: ChatToolCall, at: str) -> ToolCall:
        call_id = make_id("call_", self._request_id, at) if body.id in (None, "") else str(body.id)
        if body.function:
            return self._function_call(call_id, body.function.name, body.function.arguments)
        if body.custom:
            return self._function_call(call_id, body.custom.name, wrap_input(plain_text(body.custom.input)))
        if body.name:
            return self._function_call(call_id, body.name, body.arguments)
        raise BadRequest(f"{at} has neither function nor custom", param=at)

    def _function_call(self, call_id: str, name: str, arguments: Any) -> ToolCall:
        self._names[call_id] = name
        return ToolCall(id=call_id, name=name, arguments=object_arguments(arguments))

    def _results(self, body: ChatMessage, at: str) -> list[Part]:
        """The result in a `tool` message, or in a deprecated `function` message, which answers the latest
        function_call."""
        parts = self._result_parts(body, at)
        if results := [part for part in parts if isinstance(part, ToolResult)]:
            return list(results)
        call_id = self._legacy_id if body.tool_call_id is None and body.role == "function" else body.tool_call_id
        shown = "" if call_id is None else str(call_id)
        plain = [part for part in parts if isinstance(part, Text | Image)]
        return [ToolResult(call_id=shown, parts=plain, name=self._names.get(shown) or body.name)]

    def _result_parts(self, body: ChatMessage, at: str) -> list[Part]:
        """The parts of a result. A list or object that isn't made of parts is shown as JSON."""
        if isinstance(body.content, list) and not made_of_parts(body.content):
            return [Text(plain_text(decode_body(_ANY, msgspec.json.encode(body.content), at)))]
        return self._parts.read(body.content, at, new=False)


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
