"""The objects that Responses answers are made of: output items, usage, the response itself.

Shapes after openai's Python SDK 3.54 (`types/responses`). Its stream helper, Zed, the AI SDK and Codex each refuse
different omissions; what any of them requires is always there, and no count is ever null.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from cortex.dialects.openai.logprobs import Entry
from cortex.wire import events

__all__ = [
    "CustomCall",
    "FunctionCall",
    "IncompleteDetails",
    "ItemStatus",
    "OutputItem",
    "OutputMessage",
    "OutputText",
    "ReasoningOutput",
    "ResponseObject",
    "ResponseProblem",
    "SummaryText",
    "UsageDetails",
]

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(Struct, frozen=True, tag="output_text"):
    text: str
    annotations: list[Raw] = []
    logprobs: list[Entry] = []


class OutputMessage(Struct, frozen=True, tag="message"):
    id: str
    status: ItemStatus
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class SummaryText(Struct, frozen=True, tag="summary_text"):
    text: str


class ReasoningOutput(Struct, frozen=True, tag="reasoning"):
    """Thought goes out as a summary, the one form that Zed, Codex and the AI SDK all read."""

    id: str
    summary: list[SummaryText]
    encrypted_content: str | UnsetType = UNSET


class FunctionCall(Struct, frozen=True, tag="function_call"):
    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str
    namespace: str | UnsetType = UNSET


class CustomCall(Struct, frozen=True, tag="custom_tool_call"):
    id: str
    status: ItemStatus
    call_id: str
    name: str
    input: str
    namespace: str | UnsetType = UNSET


OutputItem = OutputMessage | ReasoningOutput | FunctionCall | CustomCall


class CachedDetails(Struct, frozen=True):
    """Zed 1.17 and Codex fail on a null `cache_write_tokens` (zed#63137, agentgateway#3597)."""

    cached_tokens: int
    cache_write_tokens: int = 0


class ReasoningDetails(Struct, frozen=True):
    reasoning_tokens: int


class UsageDetails(Struct, frozen=True):
    """`input_tokens` includes what was cached."""

    input_tokens: int
    input_tokens_details: CachedDetails
    output_tokens: int
    output_tokens_details: ReasoningDetails
    total_tokens: int
    resumed: int | UnsetType = UNSET

    @classmethod
    def of(cls, usage: events.Usage) -> UsageDetails:
        return cls(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=CachedDetails(usage.cached_tokens),
            output_tokens=usage.completion_tokens,
            output_tokens_details=ReasoningDetails(usage.reasoning_tokens),
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
            resumed=usage.resumed or UNSET,
        )


class IncompleteDetails(Struct, frozen=True):
    reason: Literal["max_output_tokens", "content_filter"]


class ResponseProblem(Struct, frozen=True):
    """Codex decides by `code` whether to try again."""

    code: str
    message: str


class ResponseObject(Struct, frozen=True, kw_only=True):
    """A response at any point of its life. `usage` is left out until it is known; everything from `instructions` on
    echoes the request."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"] = "in_progress"
    background: bool = False
    completed_at: int | None = None
    error: ResponseProblem | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: list[OutputItem] = []
    usage: UsageDetails | UnsetType = UNSET
    instructions: str | list[Raw] | None = None
    max_output_tokens: int | None = None
    metadata: Raw
    parallel_tool_calls: bool
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: Raw
    store: bool
    temperature: float | None = None
    text: Raw
    tool_choice: Raw
    tools: list[Raw]
    top_logprobs: int = 0
    top_p: float | None = None
    truncation: str = "disabled"
    user: Raw
