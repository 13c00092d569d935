"""Runs a workload against an OpenAI-compatible server and records when each chunk arrived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from cortex.bench.statistics import Outcome
from cortex.bench.streaming_post import BrokenAnswer, streaming_post
from cortex.bench.workload import (
    ChatRequest,
    Workload,
    arrival_requests,
    background_requests,
    decode_requests,
    shared_prefix_requests,
    turn_request,
)

__all__ = ["run_workload"]

_TIMEOUT_S = 600.0
"""Without a byte from the server for this time a request counts as failed."""


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Error(Struct):
    message: str = ""


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | None = None


_decoder = msgspec.json.Decoder(_Chunk)


async def run_workload(url: str, workload: Workload, *, key: str | None = None) -> list[Outcome]:
    """Run `workload` and return one Outcome per request; failed requests carry their error.

    They are in the order in which the requests ended, grouped by conversation for `multi-turn`.
    """
    client = _Client(url, {"authorization": f"Bearer {key}"} if key else {})
    match workload.kind:
        case "decode":
            return await _closed_loop(client, workload, decode_requests(workload), workload.concurrency)
        case "shared-prefix":
            return await _closed_loop(client, workload, shared_prefix_requests(workload), workload.requests)
        case "multi-turn":
            conversations = [_conversation(client, workload, number) for number in range(workload.concurrency)]
            return [outcome for conversation in await asyncio.gather(*conversations) for outcome in conversation]
        case "arrivals":
            return await _arrivals(client, workload)


@dataclass(frozen=True, slots=True)
class _Client:
    """The server's URL, and the headers of every request."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)


async def _closed_loop(
    client: _Client, workload: Workload, requests: Sequence[ChatRequest], clients: int
) -> list[Outcome]:
    """`clients` clients, each sending the next request as soon as its last one was answered."""
    left = iter(requests)
    outcomes: list[Outcome] = []

    async def one_client() -> None:
        while (request := next(left, None)) is not None:
            outcomes.append(await _send(client, workload, request))

    await asyncio.gather(*(one_client() for _ in range(clients)))
    return outcomes


async def _conversation(client: _Client, workload: Workload, number: int) -> list[Outcome]:
    history: list[dict[str, str]] = []
    outcomes: list[Outcome] = []
    for turn in range(workload.turns):
        request = turn_request(workload, history, number, turn)
        outcome = await _send(client, workload, request)
        outcomes.append(outcome)
        history = [*request.messages, {"role": "assistant", "content": outcome.text}]
    return outcomes


async def _arrivals(client: _Client, workload: Workload) -> list[Outcome]:
    """Background streams run while prompts are sent one after another; then the streams are awaited."""
    streams = [asyncio.create_task(_send(client, workload, request)) for request in background_requests(workload)]
    await asyncio.sleep(1.0)
    arrived = await _closed_loop(client, workload, arrival_requests(workload), 1)
    return [*arrived, *(_during(stream, arrived) for stream in await asyncio.gather(*streams))]


def _during(stream: Outcome, arrived: Sequence[Outcome]) -> Outcome:
    """`stream` with only those chunks that came while prompts were being processed."""
    begin, end = arrived[0].sent_s, arrived[-1].ended_s
    return msgspec.structs.replace(stream, arrivals=[at for at in stream.arrivals if begin <= at <= end])


async def _send(client: _Client, workload: Workload, request: ChatRequest) -> Outcome:
    sent = time.perf_counter()
    arrivals: list[float] = []
    pieces: list[str] = []
    usage = _Usage()
    error = ""
    try:
        async for chunk in _chunks(client, workload, request):
            if chunk.error:
                error = chunk.error.message or "the stream ended with an error"
            for choice in chunk.choices:
                if text := choice.delta.content or choice.delta.reasoning_content:
                    arrivals.append(time.perf_counter())
                    pieces.append(text)
            usage = chunk.usage or usage
    except (OSError, TimeoutError, BrokenAnswer, msgspec.DecodeError) as failure:
        error = f"{type(failure).__name__}: {failure}"
    details = usage.prompt_tokens_details
    return Outcome(
        group=request.group,
        sent_s=sent,
        arrivals=arrivals,
        ended_s=time.perf_counter(),
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
        completion_tokens=usage.completion_tokens,
        text="".join(pieces),
        error=error,
    )


async def _chunks(client: _Client, workload: Workload, request: ChatRequest) -> AsyncIterator[_Chunk]:
    body = {
        "model": workload.model,
        "messages": request.messages,
        "max_tokens": request.output_tokens,
        "temperature": workload.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if workload.ignore_eos:
        body["ignore_eos"] = True
    async with streaming_post(
        client.url, "/v1/chat/completions", msgspec.json.encode(body), client.headers, _TIMEOUT_S
    ) as answer:
        if answer.status >= 400:
            yield _Chunk(error=_Error(f"HTTP {answer.status}: {_reason(await answer.read())}"))
            return
        async for line in answer.lines():
            if line.startswith(b"data: {"):
                yield _decoder.decode(line[6:])


def _reason(body: bytes) -> str:
    """The message of an OpenAI error envelope; any other body as it came, shortened."""
    try:
        error = _decoder.decode(body).error
    except msgspec.DecodeError:
        error = None
    return error.message if error and error.message else body.decode(errors="replace")[:300]
