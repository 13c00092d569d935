"""The request fields that all text APIs share, under every name that clients use for them.

Clients write the fields of one API in requests to another, and of servers that speak the same API. A field that changes
the answer is heard under each of its names in every dialect (`max_output_of`, `stop_of`, `output_format`, `reasoning`),
or rejected where the dialect can't express it. Unknown fields are ignored and numbers out of range are clamped:
rejecting fields that change nothing breaks clients. A wrong JSON type is a 400.

Names: openai's Python SDK 3.54 (`types/chat/completion_create_params.py`, `types/responses/response_create_params.py`),
anthropic's 2.12 (`types/message_create_params.py`), llama.cpp `tools/server/server-schema.cpp`, vLLM's sampling
parameters (`guided_*`, `structured_outputs`, `thinking_token_budget`), Ollama (`think`, `format`), Qwen
(`enable_thinking`, `thinking_budget`), OpenRouter (`reasoning`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from cortex.wire.inference import JsonSchema

__all__ = [
    "MAX_ALTERNATIVES",
    "MAX_INT",
    "AskedFormat",
    "ChoiceCount",
    "GenerationBody",
    "OutputConfig",
    "ReasoningSettings",
    "StreamOptions",
    "StructuredOutputs",
    "TextSettings",
    "ThinkingConfig",
    "TokenId",
    "alternatives_of",
    "max_output_of",
    "stop_of",
]

MAX_ALTERNATIVES = 20
MAX_INT = 2**31 - 1
Int32 = Annotated[int, Meta(ge=-(2**31), le=MAX_INT)]
ChoiceCount = Annotated[int, Meta(ge=1, le=128)]
TokenId = Annotated[int, Meta(ge=0, le=MAX_INT)]


class StreamOptions(Struct, frozen=True):
    include_usage: bool | None = None


class AskedFormat(Struct, frozen=True):
    """An output format. `json_schema` holds `name`, `schema` and `strict`, or is the schema itself; the Responses API
    and Anthropic's write them beside `type`, and so does llama.cpp's older form with `type: json_object`."""

    type: str | None = None
    json_schema: dict[str, Any] | None = None
    name: str | None = None
    schema: JsonSchema | None = None
    strict: bool | None = None


class TextSettings(Struct, frozen=True):
    """`text` of the Responses API."""

    format: AskedFormat | None = None


class OutputConfig(Struct, frozen=True):
    """`output_config` of Anthropic's API."""

    effort: str | None = None
    format: AskedFormat | None = None


class StructuredOutputs(Struct, frozen=True):
    """`structured_outputs` of vLLM. OpenRouter's field of that name is a boolean that changes nothing."""

    json: str | JsonSchema | None = None
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    structural_tag: Any = None


class ReasoningSettings(Struct, frozen=True):
    """`reasoning` of the Responses API (`effort`, `summary`) and of OpenRouter (`enabled`, `max_tokens`)."""

    effort: str | None = None
    summary: str | None = None
    enabled: bool | None = None
    max_tokens: int | None = None


class ThinkingConfig(Struct, frozen=True):
    """`thinking` of Anthropic's API. `display: "omitted"` asks for thinking blocks without text; their signature then
    carries the text."""

    type: str = ""
    budget_tokens: int | None = None
    display: str | None = None


class GenerationBody(Struct, frozen=True, kw_only=True):
    """The fields of a request for generated text. An absent field and null both become None."""

    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: ChoiceCount | None = None
    prompt_cache_key: str | None = None
    cache_prompt: bool | None = None
    timings_per_token: bool | None = None
    return_progress: bool | None = None
    sse_ping_interval: float | None = None
    n_probs: Int32 | None = None
    # limits
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n_predict: int | None = None
    stop: str | list[str] | None = None
    stop_sequences: str | list[str] | None = None
    # output format
    response_format: AskedFormat | None = None
    text: TextSettings | None = None
    output_config: OutputConfig | None = None
    output_format: AskedFormat | None = None
    format: str | dict[str, Any] | None = None
    json_schema: JsonSchema | None = None
    grammar: str | None = None
    guided_json: str | JsonSchema | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | bool | None = None
    # reasoning
    reasoning_effort: str | None = None
    reasoning: ReasoningSettings | str | bool | None = None
    reasoning_budget_tokens: int | None = None
    thinking: ThinkingConfig | bool | None = None
    thinking_budget: int | None = None
    thinking_budget_tokens: int | None = None
    thinking_token_budget: int | None = None
    enable_thinking: bool | None = None
    think: bool | str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    # sampling
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | list[tuple[int | str, float | bool]] | None = None
    top_k: Int32 | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: Int32 | None = None
    dry_penalty_last_n: Int32 | None = None
    dry_sequence_breakers: list[str] | None = None
    repeat_penalty: float | None = None
    repeat_last_n: Int32 | None = None
    mirostat: Literal[0, 1, 2] | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    ignore_eos: bool | None = None
    samplers: list[str] | str | None = None


def max_output_of(body: GenerationBody) -> int | None:
    """The limit in tokens, or None for no limit but the context (no field given, or a negative number).

    0 evaluates the prompt and generates nothing. The precedence of the names is llama.cpp's.
    """
    for limit in (body.n_predict, body.max_output_tokens, body.max_completion_tokens, body.max_tokens):
        if limit is not None:
            return None if limit < 0 else min(limit, MAX_INT)
    return None


def alternatives_of(body: GenerationBody) -> int | None:
    """The number of alternatives from llama.cpp's `n_probs`; None (no log-probabilities) unless it is positive."""
    return None if body.n_probs is None or body.n_probs <= 0 else min(body.n_probs, MAX_ALTERNATIVES)


def stop_of(body: GenerationBody) -> list[str]:
    """The stop strings of both names, each once. Empty ones are dropped, since they would match before the first
    token."""
    if body.stop is None and body.stop_sequences is None:
        return []
    given = [[stop] if isinstance(stop, str) else stop or [] for stop in (body.stop, body.stop_sequences)]
    return list(dict.fromkeys(text for stop in given for text in stop if text))
