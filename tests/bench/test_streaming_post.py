"""The benchmark's HTTP client against scripted servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from cortex.bench.client import run_workload
from cortex.bench.streaming_post import BrokenAnswer, streaming_post
from cortex.bench.workload import Workload

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"delta":{"content":"word "}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\ndata: [DONE]\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def serving(*pieces: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answers every request with `pieces`, each in a write of its own, and closes. Yields the URL and the requests."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        seen.append(head + await reader.readexactly(length))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(60):
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


async def lines(url: str) -> Sequence[bytes]:
    async with streaming_post(url, "/x", b"{}", {"authorization": "Bearer k"}, 60.0) as answer:
        return [line async for line in answer.lines()]


async def test_lines_come_whole_however_they_are_cut() -> None:
    whole = CHUNKED + chunk(b"one\ntw") + chunk(b"o\r\nthree") + b"0\r\n\r\n"
    async with serving(*(bytes([byte]) for byte in whole)) as (url, seen):
        assert await lines(f"{url}/behind") == [b"one", b"two", b"three"]
    assert seen[0].startswith(b"POST /behind/x HTTP/1.1\r\n")
    assert b"authorization: Bearer k\r\n" in seen[0]
    assert seen[0].endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize("answer", [CHUNKED + chunk(b"half"), b"", b"+PONG\r\n"])
async def test_an_answer_that_breaks_off_is_no_answer(answer: bytes) -> None:
    async with serving(answer) as (url, _):
        with pytest.raises(BrokenAnswer):
            await lines(url)


def load(requests: int = 1) -> Workload:
    return Workload(kind="decode", model="m", requests=requests, concurrency=1)


async def test_a_stream_is_timed_and_counted() -> None:
    async with serving(CHUNKED, chunk(EVENT), chunk(EVENT), chunk(USAGE), b"0\r\n\r\n") as (url, _):
        (outcome,) = await run_workload(url, load())
    assert (outcome.text, outcome.error) == ("word word ", "")
    assert len(outcome.arrivals) == 2
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (3, 2)


async def test_failures_are_outcomes_with_a_reason() -> None:
    refusal = b'{"error":{"message":"no such model"}}'
    whole = b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n%b" % (len(refusal), refusal)
    async with serving(whole) as (url, _):
        (outcome,) = await run_workload(url, load())
    assert outcome.error == "HTTP 404: no such model"
    (outcome,) = await run_workload("http://127.0.0.1:1", load())
    assert outcome.error
