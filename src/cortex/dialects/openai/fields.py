"""Fields that chat completions and legacy completions share: limits, sampling, formats, llama.cpp's extensions.

Unknown fields are ignored and numbers are clamped, because refusing what changes nothing is what breaks clients;
wrong JSON types are 400s. Extension names and their meaning are those of llama.cpp's server.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from cortex.dialects.json_body import portable
from cortex.dialects.openai.samplers import with_samplers
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import (
    Grammar,
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    OutputFormat,
    Reasoning,
    Sampling,
    TextFormat,
)

__all__ = [
    "MAX_ALTERNATIVES",
    "Choices",
    "GenerationBody",
    "StreamOptions",
    "Token",
    "alternatives_of",
    "max_output_of",
    "output_format_of",
    "reasoning_of",
    "sampling_of",
    "stop_of",
]

MAX_ALTERNATIVES = 20
_MAX_INT = 2**31 - 1
Int = Annotated[int, Meta(ge=-(2**31), le=_MAX_INT)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Token = Annotated[int, Meta(ge=0, le=_MAX_INT)]


class StreamOptions(Struct, frozen=True):
    include_usage: bool | None = None


class SchemaFormat(Struct, frozen=True):
    name: str | None = None
    schema: JsonSchema | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True):
    """`schema` beside `type: json_object` is llama.cpp's older way to send one."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    schema: JsonSchema | None = None
    json_schema: SchemaFormat | None = None


class GenerationBody(Struct, frozen=True, kw_only=True):
    """What a request for text may say, in either API. None, absent and null are the same."""

    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n_predict: int | None = None
    n: Choices | None = None
    stop: str | list[str] | None = None
    response_format: ResponseFormat | None = None
    json_schema: JsonSchema | None = None
    grammar: str | None = None
    prompt_cache_key: str | None = None
    cache_prompt: bool | None = None
    timings_per_token: bool | None = None
    return_progress: bool | None = None
    sse_ping_interval: float | None = None
    n_probs: Int | None = None
    # sampling
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | list[tuple[int | str, float | bool]] | None = None
    top_k: Int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: Int | None = None
    dry_penalty_last_n: Int | None = None
    dry_sequence_breakers: list[str] | None = None
    repeat_penalty: float | None = None
    repeat_last_n: Int | None = None
    mirostat: Literal[0, 1, 2] | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    ignore_eos: bool | None = None
    samplers: list[str] | str | None = None


_SAME_NAME = [
    name
    for name in Sampling.__struct_fields__
    if name not in {"temperature", "top_p", "min_p", "top_k", "seed", "logit_bias"}
]


def sampling_of(body: GenerationBody) -> Sampling:
    """The sampling parameters the caller gave, out-of-range ones moved to the nearest bound."""
    said = Sampling(
        temperature=_clamped(body.temperature, 0.0, None),
        top_p=_clamped(body.top_p, 0.0, 1.0),
        min_p=_clamped(body.min_p, 0.0, 1.0),
        top_k=None if body.top_k is None else max(0, body.top_k),
        seed=None if body.seed is None else _seed(body.seed),
        logit_bias=_logit_bias(body.logit_bias),
        **{name: getattr(body, name) for name in _SAME_NAME},
    )
    return with_samplers(said, body.samplers)


def max_output_of(body: GenerationBody) -> int | None:
    """llama.cpp's precedence; a negative number means no limit but the context. Nothing said means that too, and 0
    that the prompt is evaluated and nothing generated."""
    for said in (body.n_predict, body.max_completion_tokens, body.max_tokens):
        if said is not None:
            return None if said < 0 else min(said, _MAX_INT)
    return None


def alternatives_of(body: GenerationBody) -> int | None:
    """llama.cpp's way to ask for log-probabilities: how many alternatives, none when it isn't positive."""
    return None if body.n_probs is None or body.n_probs <= 0 else min(body.n_probs, MAX_ALTERNATIVES)


def stop_of(body: GenerationBody) -> list[str]:
    """The stop strings without empty ones, which would stop everything at once."""
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return [text for text in stop if text]


def output_format_of(body: GenerationBody) -> OutputFormat:
    """The one output format asked for. Raises BadRequest when two contradict each other."""
    asked = body.response_format or ResponseFormat()
    has_schema = body.json_schema is not None or asked.type == "json_schema" or asked.schema is not None
    if body.grammar:
        if has_schema or asked.type != "text":
            raise BadRequest("grammar and a JSON format can't be combined; send one of them", param="grammar")
        return Grammar(syntax="gbnf", text=body.grammar)
    if body.json_schema is not None:
        return _schema_format(SchemaFormat(schema=body.json_schema))
    if asked.type == "json_schema":
        return _schema_format(asked.json_schema or SchemaFormat(schema=asked.schema))
    if asked.type == "json_object":
        return _schema_format(SchemaFormat(schema=asked.schema))
    return TextFormat()


def reasoning_of(effort: str | None, budget: int | None, template_kwargs: dict[str, Any]) -> Reasoning:
    """How much to think. Effort "none" and a budget of 0 switch it off; a negative budget is no budget.

    Raises BadRequest for an `enable_thinking` that isn't a boolean: templates would take the string "false" for true.
    """
    switch = template_kwargs.get("enable_thinking")
    if switch is not None and not isinstance(switch, bool):
        param = "chat_template_kwargs.enable_thinking"
        raise BadRequest(f"{param} must be true or false, not {switch!r}", param=param)
    if effort == "none" or budget == 0 or (switch is False and not effort):
        return Reasoning(mode="off")
    budget = None if budget is None or budget < 0 else min(budget, _MAX_INT)
    mode: Literal["auto", "on"] = "on" if effort or budget or switch else "auto"
    return Reasoning(mode=mode, effort=effort or None, budget=budget)


def _schema_format(asked: SchemaFormat) -> OutputFormat:
    if not asked.schema:
        return JsonObjectFormat()
    schema = portable(asked.schema, "response_format")
    return JsonSchemaFormat(schema=schema, name=asked.name or "response", strict=asked.strict is not False)


def _clamped(value: float | None, low: float, high: float | None) -> float | None:
    if value is None:
        return None
    return max(low, value if high is None else min(high, value))


def _seed(seed: int) -> int:
    """llama.cpp's seeds are 32 bits wide, -1 asks for a random one; OpenAI's are any integer."""
    return -1 if seed == -1 else seed & 0xFFFFFFFF


def _logit_bias(bias: dict[str, float] | list[tuple[int | str, float | bool]] | None) -> dict[int, float] | None:
    """Token id to bias; llama.cpp's list form lets `false` forbid a token."""
    if bias is None:
        return None
    pairs = bias.items() if isinstance(bias, dict) else bias
    return {_token_id(token): -100.0 if value is False else float(value) for token, value in pairs}


def _token_id(token: int | str) -> int:
    digits = str(token)
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9:
        raise UnsupportedValue(f"logit_bias: {token!r} is not a token id", param="logit_bias")
    return int(digits)
