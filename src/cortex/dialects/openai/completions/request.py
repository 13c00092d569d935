"""OpenAI's legacy `POST /v1/completions`: request body to one wire request per prompt. No chat template is used.

Fields after openai's Python SDK 3.54 (`types/completion_create_params.py`) and llama.cpp's extensions.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from cortex.dialects.base import Call, CallContext
from cortex.dialects.fields import (
    MAX_ALTERNATIVES,
    ChoiceCount,
    GenerationBody,
    TokenId,
    alternatives_of,
    max_output_of,
    stop_of,
)
from cortex.dialects.ids import make_id
from cortex.dialects.json_body import decode_body
from cortex.dialects.openai.completions.answer import CompletionAnswerOptions, CompletionCollector
from cortex.dialects.openai.completions.stream import CompletionRenderer
from cortex.dialects.output_format import output_format_of
from cortex.dialects.sampling import sampling_of
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import InferenceRequest

__all__ = ["CompletionBody", "parse_completions"]


class CompletionBody(GenerationBody, frozen=True, kw_only=True):
    """`prompt`: text or a list of token ids, one or several. `logprobs` is the number of alternatives; llama.cpp
    accepts a boolean too."""

    prompt: str | list[str | TokenId | list[TokenId]]
    suffix: str | None = None
    echo: bool | None = None
    best_of: ChoiceCount | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MAX_ALTERNATIVES)] | bool | None = None


_decoder = msgspec.json.Decoder(CompletionBody)


def parse_completions(body: bytes, context: CallContext) -> Call:
    """A call for completions. Raises BadRequest, UnsupportedValue, and ModelNotFound from `context.resolve`."""
    decoded = decode_body(_decoder, body)
    prompts = _prompts(decoded.prompt)
    options = _options(decoded, context, len(prompts))
    _check(decoded, options)
    return Call(
        requests=[_request(decoded, context, options, part, prompt) for part, prompt in enumerate(prompts)],
        stream=decoded.stream is True,
        renderer=lambda: CompletionRenderer(options),
        collector=lambda: CompletionCollector(options),
        keepalive_s=decoded.sse_ping_interval,
    )


def _prompts(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """The list of prompts. Raises BadRequest for an empty list and for a mixture of token ids and prompts."""
    if isinstance(prompt, str):
        return [prompt]
    ids = [item for item in prompt if isinstance(item, int)]
    if ids and len(ids) == len(prompt):
        return [ids]
    prompts = [item for item in prompt if not isinstance(item, int)]
    if not prompts or ids:
        raise BadRequest("prompt must be text, token ids, or a non-empty list of either", param="prompt")
    return prompts


def _check(decoded: CompletionBody, options: CompletionAnswerOptions) -> None:
    if options.generated < options.choices:
        raise BadRequest("best_of must not be smaller than n", param="best_of")
    if options.generated > options.choices and decoded.stream:
        raise UnsupportedValue(
            "best_of can't be streamed: the best completions are known only at the end", param="best_of"
        )


def _options(decoded: CompletionBody, context: CallContext, parts: int) -> CompletionAnswerOptions:
    choices = decoded.n or 1
    return CompletionAnswerOptions(
        id=make_id("cmpl-", context.request_id),
        created=context.created,
        model=decoded.model or context.resolve(decoded.model),
        parts=parts,
        choices=choices,
        generated=decoded.best_of or choices,
        logprobs=_logprobs(decoded) is not None,
        echo=decoded.echo is True,
        usage=bool(decoded.stream_options and decoded.stream_options.include_usage),
        timings=decoded.timings_per_token is True,
        progress=decoded.return_progress is True,
    )


def _request(
    decoded: CompletionBody, context: CallContext, options: CompletionAnswerOptions, part: int, prompt: str | list[int]
) -> InferenceRequest:
    logprobs = _logprobs(decoded)
    if logprobs is None and options.generated > options.choices:
        logprobs = 0  # the best candidates are chosen by their log-probabilities
    return InferenceRequest(
        id=context.request_id if options.parts == 1 else f"{context.request_id}-{part}",
        model=context.resolve(decoded.model),
        prompt=prompt,
        suffix=decoded.suffix or None,
        echo=decoded.echo is True,
        format=output_format_of(decoded, []),
        sampling=sampling_of(decoded),
        stop=stop_of(decoded),
        max_output=max_output_of(decoded),
        n=options.generated,
        logprobs=logprobs,
        cache_key=decoded.prompt_cache_key,
        cache_prompt=decoded.cache_prompt is not False,
        principal=context.principal,
        dialect="openai_completions",
        report_progress=options.progress and decoded.stream is True,
    )


def _logprobs(decoded: CompletionBody) -> int | None:
    """The number of alternatives: 0 for `true` (the chosen token only), None for `false` (no log-probabilities)."""
    if decoded.logprobs is None or decoded.logprobs is False:
        return alternatives_of(decoded)
    return 0 if decoded.logprobs is True else decoded.logprobs
