"""The events of a Responses stream, in the shapes of openai's Python SDK 3.54 (`types/responses`)."""

from __future__ import annotations

from msgspec import Struct

from cortex.dialects.openai.logprobs import TokenEntry
from cortex.dialects.openai.responses.objects import OutputItem, OutputText, ResponseObject, SummaryText

__all__ = [
    "ArgumentsDelta",
    "ArgumentsDone",
    "InputDelta",
    "InputDone",
    "ItemAdded",
    "ItemDone",
    "PartAdded",
    "PartDone",
    "ResponseEvent",
    "StreamEvent",
    "SummaryDelta",
    "SummaryDone",
    "SummaryPartAdded",
    "SummaryPartDone",
    "TextDeltaEvent",
    "TextDone",
]


class StreamEvent(Struct, kw_only=True):
    """An event. The renderer sets `sequence_number`, counting from 0 without gaps."""

    sequence_number: int = 0


class ResponseEvent(StreamEvent, kw_only=True):
    """An event of the whole response; `type` is response.created, .in_progress, .completed, .incomplete or .failed."""

    type: str
    response: ResponseObject


class ItemAdded(StreamEvent, kw_only=True, tag="response.output_item.added"):
    output_index: int
    item: OutputItem


class ItemDone(StreamEvent, kw_only=True, tag="response.output_item.done"):
    output_index: int
    item: OutputItem


class ItemEvent(StreamEvent, kw_only=True):
    """An event inside an item that an ItemAdded has announced."""

    item_id: str
    output_index: int


class PartAdded(ItemEvent, kw_only=True, tag="response.content_part.added"):
    content_index: int = 0
    part: OutputText


class PartDone(ItemEvent, kw_only=True, tag="response.content_part.done"):
    content_index: int = 0
    part: OutputText


class TextDeltaEvent(ItemEvent, kw_only=True, tag="response.output_text.delta"):
    content_index: int = 0
    delta: str
    logprobs: list[TokenEntry] = []


class TextDone(ItemEvent, kw_only=True, tag="response.output_text.done"):
    content_index: int = 0
    text: str
    logprobs: list[TokenEntry] = []


class SummaryPartAdded(ItemEvent, kw_only=True, tag="response.reasoning_summary_part.added"):
    summary_index: int = 0
    part: SummaryText


class SummaryPartDone(ItemEvent, kw_only=True, tag="response.reasoning_summary_part.done"):
    summary_index: int = 0
    part: SummaryText


class SummaryDelta(ItemEvent, kw_only=True, tag="response.reasoning_summary_text.delta"):
    summary_index: int = 0
    delta: str


class SummaryDone(ItemEvent, kw_only=True, tag="response.reasoning_summary_text.done"):
    summary_index: int = 0
    text: str


class ArgumentsDelta(ItemEvent, kw_only=True, tag="response.function_call_arguments.delta"):
    delta: str


class ArgumentsDone(ItemEvent, kw_only=True, tag="response.function_call_arguments.done"):
    arguments: str


class InputDelta(ItemEvent, kw_only=True, tag="response.custom_tool_call_input.delta"):
    delta: str


class InputDone(ItemEvent, kw_only=True, tag="response.custom_tool_call_input.done"):
    input: str
