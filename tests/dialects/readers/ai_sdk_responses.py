"""The AI SDK's reading of Responses (opencode uses it), after the zod schemas of its openai package.

A chunk that fits no schema is lost or ends the stream; `nullish` fields may be null or absent.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tests.dialects.readers.frames import Complaint, Said, frames

__all__ = ["read_responses"]


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
                said.add_call(name, arguments or "{}")
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
