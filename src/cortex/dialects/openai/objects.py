"""The pieces of OpenAI answers that chat, completions and embeddings have in common."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct, UnsetType

from cortex.wire import events

__all__ = ["FINGERPRINT", "ChunkHead", "PromptProgress", "TimingsObject", "UsageObject", "encode", "finish_word"]

encode = msgspec.json.Encoder().encode

FINGERPRINT = "cortex"
"""`system_fingerprint`: one word, so that equal runs give equal bytes."""


class ChunkHead(Struct, frozen=True):
    """The keys every chunk and answer repeats; clients treat a chunk without one of them as broken."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str = FINGERPRINT

    def open(self) -> bytes:
        """The JSON object up to, and without, its closing brace."""
        return encode(self)[:-1]


class PromptDetails(Struct, frozen=True):
    cached_tokens: int


class CompletionDetails(Struct, frozen=True):
    reasoning_tokens: int


class UsageObject(Struct, frozen=True):
    """Token counts, every one an integer: a null or a missing total makes clients drop the whole chunk (zed#42893).
    `resumed`, our own word, is there only when the answer was begun elsewhere."""

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
    """llama.cpp's `timings`, in milliseconds; sent only to those who ask."""

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


def finish_word(reason: events.FinishReason) -> str:
    """`finish_reason` of a choice that made no tool call."""
    return "stop" if reason == "stop_sequence" else reason


def _ratio(value: float, by: float) -> float:
    return round(value / by, 3) if by else 0.0
