"""JSON objects of Responses answers: output items, usage, the response, the answer to its deletion.

Shapes after openai's Python SDK 3.54 (`types/responses`). Its stream helper, Zed, the AI SDK and Codex each require
different keys: all keys that any of them requires are always present, and no count is null.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from cortex.dialects.openai.logprobs import TokenEntry
from cortex.wire import events

__all__ = [
    "IncompleteDetails",
    "ItemStatus",
    "OutputCustomCall",
    "OutputFunctionCall",
    "OutputItem",
    "OutputMessage",
    "OutputReasoning",
    "OutputText",
    "ResponseError",
    "ResponseObject",
    "SummaryText",
    "UsageDetails",
    "deleted_reply",
]

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(Struct, frozen=True, tag="output_text"):
    text: str
    annotations: list[Raw] = []
    logprobs: list[TokenEntry] = []


class OutputMessage(Struct, frozen=True, tag="message"):
    id: str
    status: ItemStatus
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class SummaryText(Struct, frozen=True, tag="summary_text"):
    text: str


class OutputReasoning(Struct, frozen=True, tag="reasoning"):
    """Reasoning is sent as a summary, the only form that Zed, Codex and the AI SDK all read."""

    id: str
    summary: list[SummaryText]
    encrypted_content: str | UnsetType = UNSET


class OutputFunctionCall(Struct, frozen=True, tag="function_call"):
    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str
    namespace: str | UnsetType = UNSET


class OutputCustomCall(Struct, frozen=True, tag="custom_tool_call"):
    id: str
    status: ItemStatus
    call_id: str
    name: str
    input: str
    namespace: str | UnsetType = UNSET


OutputItem = OutputMessage | OutputReasoning | OutputFunctionCall | OutputCustomCall


class CachedDetails(Struct, frozen=True):
    """Zed 1.17 and Codex fail on a null `cache_write_tokens` (zed#63137, agentgateway#3597)."""

    cached_tokens: int
    cache_write_tokens: int = 0


class ReasoningDetails(Struct, frozen=True):
    reasoning_tokens: int


class UsageDetails(Struct, frozen=True):
    """Token counts. `input_tokens` includes cached tokens. `resumed`: see chat's `UsageObject`."""

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


class ResponseError(Struct, frozen=True):
    """Codex decides by `code` whether to retry."""

    code: str
    message: str


class ResponseObject(Struct, frozen=True, kw_only=True):
    """A response in any state. `usage` is absent until it is known; the fields from `instructions` on repeat the
    request."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"] = "in_progress"
    background: bool = False
    completed_at: int | None = None
    error: ResponseError | None = None
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


class DeletedReply(Struct, frozen=True):
    id: str
    object: str = "response"
    deleted: bool = True


def deleted_reply(response_id: str) -> bytes:
    """The JSON body of the answer to `DELETE /v1/responses/{id}`."""
    return msgspec.json.encode(DeletedReply(response_id))
