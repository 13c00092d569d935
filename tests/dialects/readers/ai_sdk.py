"""The AI SDK's readings (opencode uses it), after the zod schemas of its openai-compatible, openai and anthropic
packages. A chunk that fits no schema is lost or ends the stream; `nullish` fields may be null or absent.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec
from msgspec import Struct

from tests.dialects.readers.frames import Complaint, Said, frames

__all__ = ["read_anthropic", "read_chat", "read_responses"]


# ---- chat completions


class Function(Struct):
    name: str | None = None
    arguments: str | None = None


class CallDelta(Struct):
    """`function` is an object in every delta."""

    function: Function
    index: int | None = None
    id: str | None = None


class Delta(Struct):
    role: Literal["assistant", ""] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallDelta] | None = None


class Choice(Struct):
    delta: Delta | None = None
    finish_reason: str | None = None


class Details(Struct):
    reasoning_tokens: float | None = None
    cached_tokens: float | None = None


class Usage(Struct):
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    total_tokens: float | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None


class Chunk(Struct):
    choices: list[Choice]
    id: str | None = None
    created: float | None = None
    model: str | None = None
    usage: Usage | None = None


class ErrorBody(Struct):
    message: str
    type: str | None = None
    param: Any = None
    code: str | int | None = None


class ErrorChunk(Struct):
    error: ErrorBody


class MaybeError(Struct):
    error: Any = None


def read_chat(body: bytes) -> Said:
    said = Said()
    calls: list[dict[str, str]] = []
    for frame in frames(body):
        if frame.data == "[DONE]":
            continue
        if msgspec.json.decode(frame.data, type=MaybeError).error is not None:
            said.error, said.ended = msgspec.json.decode(frame.data, type=ErrorChunk).error.message, True
            continue
        for choice in msgspec.json.decode(frame.data, type=Chunk).choices[:1]:
            _chat_delta(choice, said, calls)
    if not said.ended:
        raise Complaint("Response stream ended without a finish reason.")
    if said.error is None:
        said.calls = [(call["name"], call["arguments"]) for call in calls]
    return said


def _chat_delta(choice: Choice, said: Said, calls: list[dict[str, str]]) -> None:
    delta = choice.delta or Delta()
    said.text += delta.content or ""
    said.reasoning += delta.reasoning_content or delta.reasoning or ""
    for call in delta.tool_calls or []:
        index = len(calls) if call.index is None else call.index
        if index == len(calls):
            if not call.id or not call.function.name:
                raise Complaint("the first delta of a call needs id and function.name")
            calls.append({"name": call.function.name, "arguments": ""})
        calls[index]["arguments"] += call.function.arguments or ""
    if choice.finish_reason is not None:
        said.end, said.ended = choice.finish_reason, True


# ---- Anthropic messages


class StartUsage(Struct):
    input_tokens: float
    cache_creation_input_tokens: float | None = None
    cache_read_input_tokens: float | None = None


class StartMessage(Struct):
    usage: StartUsage
    id: str | None = None
    model: str | None = None


class MessageStart(Struct, tag="message_start"):
    message: StartMessage


class TextBlock(Struct, tag="text"):
    text: str


class ThinkingBlock(Struct, tag="thinking"):
    thinking: str


class ToolUseBlock(Struct, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any] | None = None


class BlockStart(Struct, tag="content_block_start"):
    index: int
    content_block: TextBlock | ThinkingBlock | ToolUseBlock


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


class EndDelta(Struct):
    stop_reason: str | None = None
    stop_sequence: str | None = None


class EndUsage(Struct):
    output_tokens: float
    input_tokens: float | None = None
    cache_creation_input_tokens: float | None = None
    cache_read_input_tokens: float | None = None


class MessageDelta(Struct, tag="message_delta"):
    delta: EndDelta
    usage: EndUsage


class MessageStop(Struct, tag="message_stop"):
    pass


class Ping(Struct, tag="ping"):
    pass


class AnthropicError(Struct):
    type: str
    message: str


class ErrorEvent(Struct, tag="error"):
    error: AnthropicError


AnthropicEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping | ErrorEvent


def read_anthropic(body: bytes) -> Said:
    said = Said()
    open_blocks: dict[int, list[str]] = {}
    for frame in frames(body):
        match msgspec.json.decode(frame.data, type=AnthropicEvent):
            case BlockStart(index=index, content_block=block):
                open_blocks[index] = [block.name if isinstance(block, ToolUseBlock) else "", ""]
            case BlockDelta(delta=TextDelta(text=text)):
                said.text += text
            case BlockDelta(delta=ThinkingDelta(thinking=thinking)):
                said.reasoning += thinking
            case BlockDelta(index=index, delta=InputDelta(partial_json=fragment)):
                open_blocks[index][1] += fragment
            case BlockStop(index=index):
                name, arguments = open_blocks.pop(index)
                if name:
                    said.calls.append((name, arguments or "{}"))
            case MessageDelta(delta=EndDelta(stop_reason=reason)):
                said.end = reason
            case MessageStop():
                said.ended = True
            case ErrorEvent(error=error):
                said.error, said.ended = error.message, True
    return said


# ---- Responses


class CreatedResponse(Struct):
    id: str
    created_at: float
    model: str


class Created(Struct, tag="response.created"):
    response: CreatedResponse


class MessageItem(Struct, tag="message"):
    id: str


class ReasoningItem(Struct, tag="reasoning"):
    id: str
    encrypted_content: str | None = None


class FunctionCallItem(Struct, tag="function_call"):
    id: str
    call_id: str
    name: str
    arguments: str


class CustomCallItem(Struct, tag="custom_tool_call"):
    id: str
    call_id: str
    name: str
    input: str


Item = MessageItem | ReasoningItem | FunctionCallItem | CustomCallItem


class ItemAdded(Struct, tag="response.output_item.added"):
    output_index: int
    item: Item


class ItemDone(Struct, tag="response.output_item.done"):
    output_index: int
    item: Item


class OutputTextDelta(Struct, tag="response.output_text.delta"):
    item_id: str
    delta: str
    logprobs: list[Any] | None = None


class ArgumentsDelta(Struct, tag="response.function_call_arguments.delta"):
    item_id: str
    output_index: int
    delta: str


class CustomInputDelta(Struct, tag="response.custom_tool_call_input.delta"):
    item_id: str
    output_index: int
    delta: str


class SummaryPartAdded(Struct, tag="response.reasoning_summary_part.added"):
    item_id: str
    summary_index: int


class SummaryDelta(Struct, tag="response.reasoning_summary_text.delta"):
    item_id: str
    summary_index: int
    delta: str


class InputDetails(Struct):
    cached_tokens: float | None = None


class OutputDetails(Struct):
    reasoning_tokens: float | None = None


class ResponseUsage(Struct):
    input_tokens: float
    output_tokens: float
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


class Reason(Struct):
    reason: str


class FinalResponse(Struct):
    usage: ResponseUsage
    incomplete_details: Reason | None = None


class Completed(Struct, tag="response.completed"):
    response: FinalResponse


class Incomplete(Struct, tag="response.incomplete"):
    response: FinalResponse


class Problem(Struct):
    message: str
    code: str | None = None


class FailedResponse(Struct):
    error: Problem | None = None


class Failed(Struct, tag="response.failed"):
    sequence_number: int
    response: FailedResponse


ResponsesEvent = (
    Created
    | ItemAdded
    | ItemDone
    | OutputTextDelta
    | ArgumentsDelta
    | CustomInputDelta
    | SummaryPartAdded
    | SummaryDelta
    | Completed
    | Incomplete
    | Failed
)
USED = {type_.__struct_config__.tag for type_ in ResponsesEvent.__args__}


class Kind(Struct):
    type: str


def read_responses(body: bytes) -> Said:
    said = Said()
    streaming: dict[int, str] = {}
    for frame in frames(body):
        if msgspec.json.decode(frame.data, type=Kind).type not in USED:
            continue
        match msgspec.json.decode(frame.data, type=ResponsesEvent):
            case ItemAdded(output_index=index):
                streaming[index] = ""
            case ArgumentsDelta(output_index=index, delta=delta) | CustomInputDelta(output_index=index, delta=delta):
                streaming[index] += delta
            case OutputTextDelta(delta=delta):
                said.text += delta
            case SummaryDelta(delta=delta):
                said.reasoning += delta
            case ItemDone(output_index=index, item=FunctionCallItem(name=name, arguments=arguments)):
                _same(streaming[index], arguments)
                json.loads(arguments)
                said.calls.append((name, arguments))
            case ItemDone(output_index=index, item=CustomCallItem(name=name, input=text)):
                _same(streaming[index], text)
                said.calls.append((name, text))
            case Completed():
                said.end, said.ended = "completed", True
            case Incomplete(response=response):
                said.end = response.incomplete_details.reason if response.incomplete_details else None
                said.ended = True
            case Failed(response=failed):
                said.error, said.ended = failed.error.message if failed.error else "", True
    if not said.ended:
        raise Complaint("the stream stops without a final response")
    return said


def _same(streamed: str, final: str) -> None:
    if streamed != final:
        raise Complaint(f"streamed {streamed!r}, then said that it was {final!r}")
