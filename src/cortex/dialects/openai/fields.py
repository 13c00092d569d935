"""Request fields that OpenAI's text APIs share: limits, sampling, output format, llama.cpp's extensions.

Unknown fields are ignored and numbers out of range are clamped: rejecting fields that change nothing breaks clients.
A wrong JSON type is a 400. OpenAI's fields: openai's Python SDK 3.54, `types/chat/completion_create_params.py`; the
extensions: llama.cpp `tools/server/server-schema.cpp`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from cortex.dialects.json_body import wire_safe
from cortex.errors import BadRequest
from cortex.wire.inference import (
    Grammar,
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    OutputFormat,
    Reasoning,
    TextFormat,
)

__all__ = [
    "MAX_ALTERNATIVES",
    "ChoiceCount",
    "GenerationBody",
    "StreamOptions",
    "TokenId",
    "alternatives_of",
    "max_output_of",
    "output_format_of",
    "reasoning_of",
    "stop_of",
]

MAX_ALTERNATIVES = 20
_MAX_INT = 2**31 - 1
Int32 = Annotated[int, Meta(ge=-(2**31), le=_MAX_INT)]
ChoiceCount = Annotated[int, Meta(ge=1, le=128)]
TokenId = Annotated[int, Meta(ge=0, le=_MAX_INT)]


class StreamOptions(Struct, frozen=True):
    include_usage: bool | None = None


class SchemaFormat(Struct, frozen=True):
    name: str | None = None
    schema: JsonSchema | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True):
    """`schema` beside `type: json_object` is llama.cpp's older form of a JSON schema."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    schema: JsonSchema | None = None
    json_schema: SchemaFormat | None = None


class GenerationBody(Struct, frozen=True, kw_only=True):
    """The fields of a request for generated text. An absent field and null both become None."""

    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n_predict: int | None = None
    n: ChoiceCount | None = None
    stop: str | list[str] | None = None
    response_format: ResponseFormat | None = None
    json_schema: JsonSchema | None = None
    grammar: str | None = None
    prompt_cache_key: str | None = None
    cache_prompt: bool | None = None
    timings_per_token: bool | None = None
    return_progress: bool | None = None
    sse_ping_interval: float | None = None
    n_probs: Int32 | None = None
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

    0 evaluates the prompt and generates nothing. The precedence is llama.cpp's (`tools/server/server-schema.cpp`).
    """
    for limit in (body.n_predict, body.max_completion_tokens, body.max_tokens):
        if limit is not None:
            return None if limit < 0 else min(limit, _MAX_INT)
    return None


def alternatives_of(body: GenerationBody) -> int | None:
    """The number of alternatives from llama.cpp's `n_probs`; None (no log-probabilities) unless it is positive."""
    return None if body.n_probs is None or body.n_probs <= 0 else min(body.n_probs, MAX_ALTERNATIVES)


def stop_of(body: GenerationBody) -> list[str]:
    """The stop strings. Empty ones are dropped, since they would match before the first token."""
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return [text for text in stop if text]


def output_format_of(body: GenerationBody) -> OutputFormat:
    """The output format. Raises BadRequest when the fields ask for two that contradict each other."""
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
    """The reasoning settings. `budget` in tokens: 0 switches reasoning off like effort "none"; negative means no
    budget.

    Raises BadRequest for an `enable_thinking` that isn't a boolean: templates treat the string "false" as true.
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
    schema = wire_safe(asked.schema, "response_format")
    return JsonSchemaFormat(schema=schema, name=asked.name or "response", strict=asked.strict is True)
