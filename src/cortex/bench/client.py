"""Runs a workload against an OpenAI-compatible server and records when each chunk arrived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport
from msgspec import Struct

from cortex.bench.statistics import Outcome
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
    async with _client(url, key) as client:
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


@asynccontextmanager
async def _client(url: str, key: str | None) -> AsyncIterator[httpx.AsyncClient]:
    # A connection per request: llama-server closes connections after a stream unannounced, so reusing one would fail.
    headers = {"connection": "close"} | ({"authorization": f"Bearer {key}"} if key else {})
    async with httpx.AsyncClient(
        transport=AiohttpTransport(limits=httpx.Limits(max_connections=None)),
        base_url=url,
        headers=headers,
        timeout=_TIMEOUT_S,
    ) as client:
        yield client


async def _closed_loop(
    client: httpx.AsyncClient, workload: Workload, requests: Sequence[ChatRequest], clients: int
) -> list[Outcome]:
    """`clients` clients, each sending the next request as soon as its last one was answered."""
    left = iter(requests)
    outcomes: list[Outcome] = []

    async def one_client() -> None:
        while (request := next(left, None)) is not None:
            outcomes.append(await _send(client, workload, request))

    await asyncio.gather(*(one_client() for _ in range(clients)))
    return outcomes


async def _conversation(client: httpx.AsyncClient, workload: Workload, number: int) -> list[Outcome]:
    history: list[dict[str, str]] = []
    outcomes: list[Outcome] = []
    for turn in range(workload.turns):
        request = turn_request(workload, history, number, turn)
        outcome = await _send(client, workload, request)
        outcomes.append(outcome)
        history = [*request.messages, {"role": "assistant", "content": outcome.text}]
    return outcomes


async def _arrivals(client: httpx.AsyncClient, workload: Workload) -> list[Outcome]:
    """Background streams run while prompts are sent one after another; then the streams are awaited."""
    streams = [asyncio.create_task(_send(client, workload, request)) for request in background_requests(workload)]
    await asyncio.sleep(1.0)
    arrived = await _closed_loop(client, workload, arrival_requests(workload), 1)
    return [*arrived, *(_during(stream, arrived) for stream in await asyncio.gather(*streams))]


def _during(stream: Outcome, arrived: Sequence[Outcome]) -> Outcome:
    """`stream` with only those chunks that came while prompts were being processed."""
    begin, end = arrived[0].sent_s, arrived[-1].ended_s
    return msgspec.structs.replace(stream, arrivals=[at for at in stream.arrivals if begin <= at <= end])


async def _send(client: httpx.AsyncClient, workload: Workload, request: ChatRequest) -> Outcome:
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
    except (httpx.HTTPError, msgspec.DecodeError) as failure:
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


async def _chunks(client: httpx.AsyncClient, workload: Workload, request: ChatRequest) -> AsyncIterator[_Chunk]:
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
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.is_error:
            await response.aread()
            yield _Chunk(error=_Error(f"HTTP {response.status_code}: {_reason(response)}"))
            return
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                yield _decoder.decode(line[6:])


def _reason(response: httpx.Response) -> str:
    """The message of an OpenAI error envelope; any other body as it came, shortened."""
    try:
        error = _decoder.decode(response.content).error
    except msgspec.DecodeError:
        error = None
    return error.message if error and error.message else response.text[:300]
