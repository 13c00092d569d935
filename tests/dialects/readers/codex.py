"""Codex's reading of a Responses stream (codex-rs/codex-api, codex-rs/protocol).

Calls and messages are taken from `output_item.done`, whatever was streamed before. The stream must end in
`response.completed`, `.failed` or `.incomplete`; a null where a number is expected fails the whole event.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from tests.dialects.readers.frames import Complaint, Said, frames

__all__ = ["read_responses"]


class SummaryText(Struct, tag="summary_text"):
    text: str


class OutputText(Struct, tag="output_text"):
    text: str


class Message(Struct, tag="message"):
    role: str
    content: list[OutputText]
    id: str | None = None


class Reasoning(Struct, tag="reasoning"):
    summary: list[SummaryText]
    encrypted_content: str | None = None


class FunctionCall(Struct, tag="function_call"):
    name: str
    arguments: str
    call_id: str
    namespace: str | None = None


class CustomToolCall(Struct, tag="custom_tool_call"):
    name: str
    input: str
    call_id: str
    status: str | None = None


Item = Message | Reasoning | FunctionCall | CustomToolCall


class InputDetails(Struct):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Struct):
    reasoning_tokens: int


class Usage(Struct):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


class Error(Struct):
    code: str | None = None
    message: str | None = None


class Incomplete(Struct):
    reason: str


class Response(Struct):
    id: str
    usage: Usage | None = None
    error: Error | None = None
    incomplete_details: Incomplete | None = None


class Created(Struct, tag="response.created"):
    response: Response


class ItemAdded(Struct, tag="response.output_item.added"):
    item: Item


class ItemDone(Struct, tag="response.output_item.done"):
    item: Item


class TextDelta(Struct, tag="response.output_text.delta"):
    delta: str


class SummaryDelta(Struct, tag="response.reasoning_summary_text.delta"):
    delta: str
    summary_index: int


class SummaryPartAdded(Struct, tag="response.reasoning_summary_part.added"):
    summary_index: int


class CustomInputDelta(Struct, tag="response.custom_tool_call_input.delta"):
    delta: str
    item_id: str | None = None
    call_id: str | None = None


class Completed(Struct, tag="response.completed"):
    response: Response


class Failed(Struct, tag="response.failed"):
    response: Response


class IncompleteEnd(Struct, tag="response.incomplete"):
    response: Response


Event = (
    Created
    | ItemAdded
    | ItemDone
    | TextDelta
    | SummaryDelta
    | SummaryPartAdded
    | CustomInputDelta
    | Completed
    | Failed
    | IncompleteEnd
)
USED = {type_.__struct_config__.tag for type_ in Event.__args__}


class Kind(Struct):
    type: str


def read_responses(body: bytes) -> Said:
    said = Said()
    streamed = ""
    for frame in frames(body):
        if said.ended:
            raise Complaint(f"{frame.event} after the end")
        if frame.event != msgspec.json.decode(frame.data, type=Kind).type:
            raise Complaint("the event line and the type disagree")
        if frame.event not in USED:
            continue
        match msgspec.json.decode(frame.data, type=Event, strict=True):
            case TextDelta(delta=delta):
                streamed += delta
            case SummaryDelta(delta=delta):
                said.reasoning += delta
            case ItemDone(item=item):
                _take(item, said)
            case Completed(response=response):
                said.ended, said.end = True, "completed"
                if response.usage is None:
                    raise Complaint("no usage: Codex would not know how full its context is")
            case Failed(response=response):
                said.ended, said.error = True, response.error.message if response.error else None
            case IncompleteEnd(response=response):
                said.ended = True
                said.end = response.incomplete_details.reason if response.incomplete_details else None
    if not said.ended:
        raise Complaint("stream closed before response.completed")
    if said.error is None and streamed != said.text:
        raise Complaint("the streamed text is not the item's text")
    return said


def _take(item: Item, said: Said) -> None:
    match item:
        case Message(content=content):
            said.text += "".join(part.text for part in content)
        case FunctionCall():
            name = f"{item.namespace}__{item.name}" if item.namespace else item.name
            said.add_call(name, item.arguments)
        case CustomToolCall():
            said.calls.append((item.name, item.input))
