"""POST /v1/completions: raw prompts, no template; several prompts in one call, several choices for each."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from cortex.dialects.base import Call, CallContext
from cortex.dialects.ids import make_id
from cortex.dialects.json_body import decode_body
from cortex.dialects.openai.completions.answer import CompletionCollector, CompletionView
from cortex.dialects.openai.completions.stream import CompletionRenderer
from cortex.dialects.openai.fields import (
    MAX_ALTERNATIVES,
    Choices,
    GenerationBody,
    Token,
    alternatives_of,
    max_output_of,
    output_format_of,
    sampling_of,
    stop_of,
)
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import InferenceRequest

__all__ = ["CompletionBody", "parse"]


class CompletionBody(GenerationBody, frozen=True, kw_only=True):
    """`prompt`: text or token ids, one or a list of them. `logprobs` is a number here; llama.cpp also takes a flag."""

    prompt: str | list[str | Token | list[Token]]
    suffix: str | None = None
    echo: bool | None = None
    best_of: Choices | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MAX_ALTERNATIVES)] | bool | None = None


_decoder = msgspec.json.Decoder(CompletionBody)


def parse(body: bytes, context: CallContext) -> Call:
    """Raises BadRequest, or ModelNotFound from `context.resolve`."""
    asked = decode_body(_decoder, body)
    prompts = _prompts(asked.prompt)
    view = _view(asked, context, len(prompts))
    _check(asked, view)
    return Call(
        requests=[_request(asked, context, view, part, prompt) for part, prompt in enumerate(prompts)],
        stream=asked.stream is True,
        renderer=lambda: CompletionRenderer(view),
        collector=lambda: CompletionCollector(view),
        keepalive_s=asked.sse_ping_interval,
    )


def _prompts(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """The prompts one by one. Raises BadRequest for an empty list or a mixture of ids and prompts."""
    if isinstance(prompt, str):
        return [prompt]
    ids = [item for item in prompt if isinstance(item, int)]
    if ids and len(ids) == len(prompt):
        return [ids]
    prompts = [item for item in prompt if not isinstance(item, int)]
    if not prompts or ids:
        raise BadRequest("prompt must be text, token ids, or a non-empty list of either", param="prompt")
    return prompts


def _check(asked: CompletionBody, view: CompletionView) -> None:
    if view.generated < view.choices:
        raise BadRequest("best_of must not be smaller than n", param="best_of")
    if view.generated > view.choices and asked.stream:
        raise UnsupportedValue("best_of can't be streamed: which ones are best is known at the end", param="best_of")


def _view(asked: CompletionBody, context: CallContext, parts: int) -> CompletionView:
    choices = asked.n or 1
    return CompletionView(
        id=make_id("cmpl-", context.request_id),
        created=context.created,
        model=asked.model or context.resolve(asked.model),
        parts=parts,
        choices=choices,
        generated=asked.best_of or choices,
        logprobs=_logprobs(asked) is not None,
        echo=asked.echo is True,
        usage=bool(asked.stream_options and asked.stream_options.include_usage),
        timings=asked.timings_per_token is True,
        progress=asked.return_progress is True,
    )


def _request(
    asked: CompletionBody, context: CallContext, view: CompletionView, part: int, prompt: str | list[int]
) -> InferenceRequest:
    logprobs = _logprobs(asked)
    if logprobs is None and view.generated > view.choices:
        logprobs = 0  # what the best are chosen by
    return InferenceRequest(
        id=context.request_id if view.parts == 1 else f"{context.request_id}-{part}",
        model=context.resolve(asked.model),
        prompt=prompt,
        suffix=asked.suffix or None,
        echo=asked.echo is True,
        format=output_format_of(asked),
        sampling=sampling_of(asked),
        stop=stop_of(asked),
        max_output=max_output_of(asked),
        n=view.generated,
        logprobs=logprobs,
        cache_key=asked.prompt_cache_key,
        cache_prompt=asked.cache_prompt is not False,
        principal=context.principal,
        dialect="openai_completions",
        report_progress=view.progress and asked.stream is True,
    )


def _logprobs(asked: CompletionBody) -> int | None:
    """The number of alternatives; `false` is no wish for them, `true` one for the chosen token's only."""
    if asked.logprobs is None or asked.logprobs is False:
        return alternatives_of(asked)
    return 0 if asked.logprobs is True else asked.logprobs
