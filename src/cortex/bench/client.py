"""Runs a workload against an OpenAI-compatible server and notes when every chunk arrived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from cortex.bench.figures import Outcome
from cortex.bench.streaming_post import BrokenAnswer, streaming_post
from cortex.bench.workload import (
    Ask,
    Workload,
    arrival_asks,
    background_asks,
    decode_asks,
    shared_prefix_asks,
    turn_ask,
)

__all__ = ["run_workload"]

_TIMEOUT_S = 600.0


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


async def run_workload(url: str, load: Workload, *, key: str | None = None) -> list[Outcome]:
    """Every request's Outcome, in the order in which they ended; a failed one carries its error."""
    client = _Client(url, {"authorization": f"Bearer {key}"} if key else {})
    match load.kind:
        case "decode":
            return await _closed_loop(client, load, decode_asks(load), load.concurrency)
        case "shared-prefix":
            return await _closed_loop(client, load, shared_prefix_asks(load), load.requests)
        case "multi-turn":
            talks = [_conversation(client, load, number) for number in range(load.concurrency)]
            return [outcome for talk in await asyncio.gather(*talks) for outcome in talk]
        case "arrivals":
            return await _arrivals(client, load)


@dataclass(frozen=True, slots=True)
class _Client:
    """The server to ask, and the headers to ask it with."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)


async def _closed_loop(client: _Client, load: Workload, asks: Sequence[Ask], clients: int) -> list[Outcome]:
    """`clients` clients, each asking the next thing as soon as it has its answer."""
    left = iter(asks)
    outcomes: list[Outcome] = []

    async def one_client() -> None:
        while (ask := next(left, None)) is not None:
            outcomes.append(await _ask(client, load, ask))

    await asyncio.gather(*(one_client() for _ in range(clients)))
    return outcomes


async def _conversation(client: _Client, load: Workload, number: int) -> list[Outcome]:
    history: list[dict[str, str]] = []
    outcomes: list[Outcome] = []
    for turn in range(load.turns):
        ask = turn_ask(load, history, number, turn)
        outcome = await _ask(client, load, ask)
        outcomes.append(outcome)
        history = [*ask.messages, {"role": "assistant", "content": outcome.text}]
    return outcomes


async def _arrivals(client: _Client, load: Workload) -> list[Outcome]:
    """Streams run while prompts come in, the next when the last was answered; then the streams are left to end."""
    streams = [asyncio.create_task(_ask(client, load, ask)) for ask in background_asks(load)]
    await asyncio.sleep(1.0)
    arrived = await _closed_loop(client, load, arrival_asks(load), 1)
    return [*arrived, *(_during(stream, arrived) for stream in await asyncio.gather(*streams))]


def _during(stream: Outcome, arrived: Sequence[Outcome]) -> Outcome:
    """Of a stream only what came while prompts were arriving: before and after, nothing disturbs it."""
    begin, end = arrived[0].sent_s, arrived[-1].ended_s
    return msgspec.structs.replace(stream, arrivals=[at for at in stream.arrivals if begin <= at <= end])


async def _ask(client: _Client, load: Workload, ask: Ask) -> Outcome:
    sent = time.perf_counter()
    arrivals: list[float] = []
    pieces: list[str] = []
    usage = _Usage()
    error = ""
    try:
        async for chunk in _chunks(client, load, ask):
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
        group=ask.group,
        sent_s=sent,
        arrivals=arrivals,
        ended_s=time.perf_counter(),
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
        completion_tokens=usage.completion_tokens,
        text="".join(pieces),
        error=error,
    )


async def _chunks(client: _Client, load: Workload, ask: Ask) -> AsyncIterator[_Chunk]:
    body = {
        "model": load.model,
        "messages": ask.messages,
        "max_tokens": ask.output_tokens,
        "temperature": load.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if load.ignore_eos:
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
    """The envelope's message; what isn't one is shown as it came."""
    try:
        error = _decoder.decode(body).error
    except msgspec.DecodeError:
        error = None
    return error.message if error and error.message else body.decode(errors="replace")[:300]
