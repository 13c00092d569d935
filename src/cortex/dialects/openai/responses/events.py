"""The events of a Responses stream, in the shapes of openai's Python SDK 3.54 (`types/responses`)."""

from __future__ import annotations

from msgspec import Struct

from cortex.dialects.openai.logprobs import Entry
from cortex.dialects.openai.responses.objects import OutputItem, OutputText, ResponseObject, SummaryText

__all__ = [
    "ArgumentsDelta",
    "ArgumentsDone",
    "InputDelta",
    "InputDone",
    "ItemAdded",
    "ItemDone",
    "Lifecycle",
    "PartAdded",
    "PartDone",
    "StreamEvent",
    "SummaryDelta",
    "SummaryDone",
    "SummaryPartAdded",
    "SummaryPartDone",
    "TextDeltaEvent",
    "TextDone",
]


class StreamEvent(Struct, kw_only=True):
    """The renderer numbers the events as it writes them, from 0 without a gap."""

    sequence_number: int = 0


class Lifecycle(StreamEvent, kw_only=True):
    """`type` is response.created, .in_progress, .completed, .incomplete or .failed."""

    type: str
    response: ResponseObject


class ItemAdded(StreamEvent, kw_only=True, tag="response.output_item.added"):
    output_index: int
    item: OutputItem


class ItemDone(StreamEvent, kw_only=True, tag="response.output_item.done"):
    output_index: int
    item: OutputItem


class InItem(StreamEvent, kw_only=True):
    """What happens inside an item that was added before."""

    item_id: str
    output_index: int


class PartAdded(InItem, kw_only=True, tag="response.content_part.added"):
    content_index: int = 0
    part: OutputText


class PartDone(InItem, kw_only=True, tag="response.content_part.done"):
    content_index: int = 0
    part: OutputText


class TextDeltaEvent(InItem, kw_only=True, tag="response.output_text.delta"):
    content_index: int = 0
    delta: str
    logprobs: list[Entry] = []


class TextDone(InItem, kw_only=True, tag="response.output_text.done"):
    content_index: int = 0
    text: str
    logprobs: list[Entry] = []


class SummaryPartAdded(InItem, kw_only=True, tag="response.reasoning_summary_part.added"):
    summary_index: int = 0
    part: SummaryText


class SummaryPartDone(InItem, kw_only=True, tag="response.reasoning_summary_part.done"):
    summary_index: int = 0
    part: SummaryText


class SummaryDelta(InItem, kw_only=True, tag="response.reasoning_summary_text.delta"):
    summary_index: int = 0
    delta: str


class SummaryDone(InItem, kw_only=True, tag="response.reasoning_summary_text.done"):
    summary_index: int = 0
    text: str


class ArgumentsDelta(InItem, kw_only=True, tag="response.function_call_arguments.delta"):
    delta: str


class ArgumentsDone(InItem, kw_only=True, tag="response.function_call_arguments.done"):
    arguments: str


class InputDelta(InItem, kw_only=True, tag="response.custom_tool_call_input.delta"):
    delta: str


class InputDone(InItem, kw_only=True, tag="response.custom_tool_call_input.done"):
    input: str
