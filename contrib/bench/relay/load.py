"""The client side of the relay benchmark: HTTP over bare sockets, so that it costs little beside what is measured."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

__all__ = ["Streams", "requests", "streams"]


@dataclass(frozen=True)
class Streams:
    """What a run of streams saw: `events` text chunks, first-chunk times in seconds, and the wall time."""

    events: int
    ttft_s: list[float]
    seconds: float


def _request(port: int, **body: object) -> bytes:
    document = {"model": "fake", "messages": [{"role": "user", "content": "hi"}], **body}
    data = json.dumps(document).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


async def _stream(port: int, events: int) -> tuple[int, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    begun = time.perf_counter()
    writer.write(_request(port, stream=True, max_tokens=events))
    seen, first, tail = 0, 0.0, b""
    while b"[DONE]" not in tail:
        data = await reader.read(2**16)
        if not data:
            raise ConnectionError(f"stream ended after {seen} events: {tail!r}")
        found = data.count(b"word")
        if found and not seen:
            first = time.perf_counter() - begun
        seen += found
        tail = (tail + data)[-64:]
    writer.close()
    return seen, first


async def streams(port: int, count: int, events: int) -> Streams:
    """`count` streams at once, each of `events` events."""
    begun = time.perf_counter()
    results = await asyncio.gather(*(_stream(port, events) for _ in range(count)))
    return Streams(sum(seen for seen, _ in results), [first for _, first in results], time.perf_counter() - begun)


async def _whole(port: int, count: int) -> None:
    """`count` requests one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    request = _request(port, max_tokens=1)
    for _ in range(count):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in head.split(b"\r\n")[0], head
        if b"chunked" in head:
            while await reader.readuntil(b"\r\n") != b"0\r\n":
                pass
            await reader.readuntil(b"\r\n")
        else:
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
    writer.close()


async def requests(port: int, count: int, connections: int = 16) -> int:
    """About `count` requests without a stream, over `connections`. How many it was."""
    each = count // connections
    await asyncio.gather(*(_whole(port, each) for _ in range(connections)))
    return each * connections
