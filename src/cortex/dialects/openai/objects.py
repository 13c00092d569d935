"""JSON objects that the answers of OpenAI's APIs share: chunk head, usage, timings, progress, errors."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct, UnsetType

from cortex.dialects import sse
from cortex.errors import CortexError
from cortex.wire import events

__all__ = [
    "FINGERPRINT",
    "ChunkHead",
    "PromptProgress",
    "TimingsObject",
    "UsageObject",
    "encode",
    "finish_reason",
    "openai_error",
    "openai_error_frame",
]

encode = msgspec.json.Encoder().encode

FINGERPRINT = "cortex"
"""`system_fingerprint`: constant, so that equal runs give equal bytes."""


class ChunkHead(Struct, frozen=True):
    """The keys that every chunk and answer repeats; clients reject a chunk that lacks one (opencode#39061)."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str = FINGERPRINT

    def open(self) -> bytes:
        """The JSON object without its closing brace, to append more keys to."""
        return encode(self)[:-1]


class PromptDetails(Struct, frozen=True):
    cached_tokens: int


class CompletionDetails(Struct, frozen=True):
    reasoning_tokens: int


class UsageObject(Struct, frozen=True):
    """Token counts, all integers: clients drop the whole chunk when one is null or the total is missing (zed#42893).

    `resumed` is cortex's own key: how often the request was moved to another neuron; absent when it never was.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails
    resumed: int | UnsetType = UNSET

    @classmethod
    def of(cls, *usages: events.Usage) -> UsageObject:
        """The sum over the requests of one answer."""
        prompt = sum(usage.prompt_tokens for usage in usages)
        completion = sum(usage.completion_tokens for usage in usages)
        cached = sum(usage.cached_tokens for usage in usages)
        reasoning = sum(usage.reasoning_tokens for usage in usages)
        resumed = sum(usage.resumed for usage in usages) or UNSET
        return cls(
            prompt, completion, prompt + completion, PromptDetails(cached), CompletionDetails(reasoning), resumed
        )


class TimingsObject(Struct, frozen=True):
    """llama.cpp's `timings`, in milliseconds; sent only when the client asks (`timings_per_token`)."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float

    @classmethod
    def of(cls, end: events.Finished) -> TimingsObject:
        usage, timings = end.usage, end.timings
        computed = usage.prompt_tokens - usage.cached_tokens
        prompt_ms, predicted_ms = timings.prefill_s * 1000, timings.decode_s * 1000
        return cls(
            cache_n=usage.cached_tokens,
            prompt_n=computed,
            prompt_ms=prompt_ms,
            prompt_per_token_ms=_ratio(prompt_ms, computed),
            prompt_per_second=_ratio(computed, timings.prefill_s),
            predicted_n=usage.completion_tokens,
            predicted_ms=predicted_ms,
            predicted_per_token_ms=_ratio(predicted_ms, usage.completion_tokens),
            predicted_per_second=_ratio(usage.completion_tokens, timings.decode_s),
        )


class PromptProgress(Struct, frozen=True):
    """llama.cpp's `prompt_progress`, in tokens."""

    total: int
    cache: int
    processed: int


def finish_reason(reason: events.FinishReason) -> str:
    """OpenAI's `finish_reason` for a choice without tool calls."""
    return "stop" if reason == "stop_sequence" else reason


def _ratio(value: float, by: float) -> float:
    return round(value / by, 3) if by else 0.0


_ERROR_TYPES = {403: "permission", 429: "rate_limit_error", 504: "timeout"}


class ErrorObject(Struct, frozen=True):
    """`code` is always a string: clients that declare it as one fail on the integer that llama-server sends."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorEnvelope(Struct, frozen=True):
    error: ErrorObject


def _error_type(status: int) -> str:
    """OpenAI's `error.type` for an HTTP status."""
    return _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def openai_error(error: CortexError, request_id: str = "") -> bytes:  # noqa: ARG001 - an ErrorEncoder
    """The JSON body of an HTTP error response."""
    details = ErrorObject(error.message, _error_type(error.status), error.param, error.code)
    return encode(ErrorEnvelope(details))


def openai_error_frame(error: CortexError) -> bytes:
    """The SSE frame of an error in a chat or completions stream. It ends the stream: no finish chunk follows."""
    return sse.data_frame(openai_error(error))
