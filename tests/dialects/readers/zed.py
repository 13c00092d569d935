"""Zed's readings, after the serde types of its crates/open_ai, crates/lmstudio and crates/anthropic.

All of them look at lines that begin with exactly `data: `. Options may be null or absent; everything else must be
there in the right type, or the whole event is an error.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from tests.dialects.readers.frames import Complaint, Said, data_lines

__all__ = ["read_anthropic", "read_chat", "read_responses"]


# ---- chat completions


class ChatFunction(Struct):
    name: str | None = None
    arguments: str | None = None


class ChatCall(Struct):
    index: int
    id: str | None = None
    function: ChatFunction | None = None


class ChatDelta(Struct):
    role: Literal["user", "assistant", "system", "tool"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ChatCall] | None = None


class ChatChoice(Struct):
    index: int
    delta: ChatDelta | None = None
    finish_reason: str | None = None


class ChatUsage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatChunk(Struct):
    """`created`, `model` and `object` are what the LM Studio provider asks for besides."""

    choices: list[ChatChoice]
    created: int
    model: str
    object: str
    usage: ChatUsage | None = None


class ChatError(Struct):
    message: str


class ChatFailure(Struct):
    error: ChatError


class Either(Struct):
    error: Any = None


def read_chat(body: bytes) -> Said:
    said = Said()
    pending: dict[int, list[str]] = {}
    for data in data_lines(body):
        if data == "[DONE]":
            break
        if msgspec.json.decode(data, type=Either).error is not None:
            said.error, said.ended = msgspec.json.decode(data, type=ChatFailure).error.message, True
            continue
        for choice in msgspec.json.decode(data, type=ChatChunk).choices[:1]:
            _chat_choice(choice, said, pending)
    if not said.ended:
        raise Complaint("no finish_reason")
    return said


def _chat_choice(choice: ChatChoice, said: Said, pending: dict[int, list[str]]) -> None:
    delta = choice.delta or ChatDelta()
    said.text += delta.content or ""
    said.reasoning += delta.reasoning_content or ""
    for call in delta.tool_calls or []:
        entry = pending.setdefault(call.index, ["", ""])
        entry[0] += (call.function and call.function.name) or ""
        entry[1] += (call.function and call.function.arguments) or ""
    if choice.finish_reason is not None:
        said.end, said.ended = choice.finish_reason, True
        # Only this word makes Zed act on the calls it has gathered.
        if choice.finish_reason == "tool_calls":
            for name, arguments in pending.values():
                said.add_call(name, arguments)


# ---- Anthropic messages


class Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class Text(Struct, tag="text"):
    text: str


class Thinking(Struct, tag="thinking"):
    thinking: str


class ToolUse(Struct, tag="tool_use"):
    """`input` has no default in Zed's type."""

    id: str
    name: str
    input: Any


Content = Text | Thinking | ToolUse


class Message(Struct):
    id: str
    type: str
    role: Literal["user", "assistant"]
    content: list[Content]
    model: str
    usage: Usage
    stop_reason: str | None = None
    stop_sequence: str | None = None


class MessageStart(Struct, tag="message_start"):
    message: Message


class BlockStart(Struct, tag="content_block_start"):
    index: int
    content_block: Content


class TextDelta(Struct, tag="text_delta"):
    text: str


class ThinkingDelta(Struct, tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, tag="signature_delta"):
    signature: str


class InputDelta(Struct, tag="input_json_delta"):
    partial_json: str


class BlockDelta(Struct, tag="content_block_delta"):
    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputDelta


class BlockStop(Struct, tag="content_block_stop"):
    index: int


class MessageEnd(Struct):
    stop_reason: Literal["end_turn", "max_tokens", "tool_use", "stop_sequence", "refusal"] | None = None
    stop_sequence: str | None = None


class MessageDelta(Struct, tag="message_delta"):
    delta: MessageEnd
    usage: Usage


class MessageStop(Struct, tag="message_stop"):
    pass


class Ping(Struct, tag="ping"):
    pass


class ApiError(Struct):
    type: str
    message: str


class ErrorEvent(Struct, tag="error"):
    error: ApiError


AnthropicEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping | ErrorEvent


def read_anthropic(body: bytes) -> Said:
    said = Said()
    calls: dict[int, list[str]] = {}
    for data in data_lines(body):
        match msgspec.json.decode(data, type=AnthropicEvent):
            case BlockStart(index=index, content_block=ToolUse(name=name)):
                calls[index] = [name, ""]
            case BlockDelta(delta=TextDelta(text=text)):
                said.text += text
            case BlockDelta(delta=ThinkingDelta(thinking=thinking)):
                said.reasoning += thinking
            case BlockDelta(index=index, delta=InputDelta(partial_json=fragment)):
                calls[index][1] += fragment
            case BlockDelta(delta=SignatureDelta(signature="")):
                raise Complaint("Zed drops a thinking block without a signature when it sends it back")
            case BlockStop(index=index) if index in calls:
                name, arguments = calls[index]
                said.add_call(name, arguments)
            case MessageDelta(delta=MessageEnd(stop_reason=reason)):
                said.end = reason
            case MessageStop():
                said.ended = True
            case ErrorEvent(error=error):
                said.error, said.ended = error.message, True
    if not said.ended:
        raise Complaint("the stream stops without message_stop or error")
    return said


# ---- Responses


class ResponseUsage(Struct):
    input_tokens: int
    output_tokens: int
    total_tokens: int


class Reason(Struct):
    reason: str


class ResponseError(Struct):
    message: str
    code: str | None = None


class Summary(Struct):
    id: str
    usage: ResponseUsage | None = None
    error: ResponseError | None = None
    incomplete_details: Reason | None = None


class FunctionCallItem(Struct, tag="function_call"):
    """Zed keys calls by the item's `id`."""

    id: str
    call_id: str
    name: str
    arguments: str


class MessageItem(Struct, tag="message"):
    id: str
    role: str
    content: list[Any]


class ReasoningItem(Struct, tag="reasoning"):
    id: str
    summary: list[Any]
    encrypted_content: str | None = None


class CustomItem(Struct, tag="custom_tool_call"):
    id: str
    call_id: str
    name: str
    input: str


ResponseItem = FunctionCallItem | MessageItem | ReasoningItem | CustomItem


class Lifecycle(Struct):
    response: Summary


class ItemEvent(Struct):
    output_index: int
    item: ResponseItem


class DeltaEvent(Struct):
    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(Struct):
    item_id: str
    output_index: int
    arguments: str


class Kind(Struct):
    type: str


def read_responses(body: bytes) -> Said:
    """Function calls come with `.arguments.done`; custom calls, which Zed doesn't know, are read from their item."""
    said = Said()
    names: dict[str, str] = {}
    for data in data_lines(body):
        match msgspec.json.decode(data, type=Kind).type:
            case "response.output_item.added":
                item = msgspec.json.decode(data, type=ItemEvent).item
                if isinstance(item, FunctionCallItem):
                    names[item.id] = item.name
            case "response.output_item.done":
                item = msgspec.json.decode(data, type=ItemEvent).item
                if isinstance(item, CustomItem):
                    said.calls.append((item.name, item.input))
            case "response.output_text.delta":
                said.text += msgspec.json.decode(data, type=DeltaEvent).delta
            case "response.reasoning_summary_text.delta":
                said.reasoning += msgspec.json.decode(data, type=DeltaEvent).delta
            case "response.function_call_arguments.done":
                done = msgspec.json.decode(data, type=ArgumentsDone)
                said.add_call(names[done.item_id], done.arguments)
            case "response.completed" | "response.incomplete" | "response.failed" as kind:
                _responses_end(kind, msgspec.json.decode(data, type=Lifecycle).response, said)
            case "error":
                raise Complaint("Zed can't read an untyped error event (zed#63825)")
    if not said.ended:
        raise Complaint("the stream stops without a final response")
    return said


def _responses_end(kind: str, response: Summary, said: Said) -> None:
    said.ended = True
    said.end = response.incomplete_details.reason if response.incomplete_details else kind.removeprefix("response.")
    if response.error is not None:
        said.end, said.error = None, response.error.message
