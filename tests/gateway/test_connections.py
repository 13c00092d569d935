"""Connections against scripted peers on real sockets: when one is kept, replaced, given up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from cortex.gateway.connections import Connection, Connections

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """Serves each connection by the next of `scripts` (the last one again and again). `requests` counts what came."""

    def __init__(self, *scripts: list[bytes | None]) -> None:
        self._scripts = list(scripts)
        self.requests = 0
        self.opened = 0
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers with the script's bytes, one item a request; None says nothing. Its end closes the connection."""
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        self.opened += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for answer in script:
                await reader.readuntil(b"\r\n\r\nbody")
                self.requests += 1
                writer.write(answer or b"")
                if answer is None:
                    await reader.read()
        writer.close()
        self.closed.set()


@asynccontextmanager
async def connected(serve: Serve) -> AsyncIterator[tuple[Connections, str]]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connections = Connections(connect_s=2.0)
    try:
        yield connections, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        connections.close()
        server.close()


async def post(connections: Connections, endpoint: str) -> Connection:
    status, connection = await connections.post(endpoint, "/infer", {"x-request-id": "r"}, b"body")
    assert status == 200
    return connection


async def whole(connection: Connection) -> bytes:
    body = b""
    while part := await connection.read():
        body += part
    connection.release()
    return body


async def test_a_kept_connection_is_used_again() -> None:
    peer = Peer([OK, OK, OK])
    async with connected(peer.serve) as (connections, endpoint):
        for _ in range(3):
            assert await whole(await post(connections, endpoint)) == b"ok"
    assert (peer.opened, peer.requests) == (1, 3)


async def test_a_kept_connection_that_died_unnoticed_is_replaced_once() -> None:
    peer = Peer([OK, b""], [OK])
    async with connected(peer.serve) as (connections, endpoint):
        for _ in range(2):
            assert await whole(await post(connections, endpoint)) == b"ok"
    assert (peer.opened, peer.requests) == (2, 3)


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    peer = Peer([OK + OK.replace(b"ok", b"no")], [OK])
    async with connected(peer.serve) as (connections, endpoint):
        for _ in range(2):
            assert await whole(await post(connections, endpoint)) == b"ok"
    assert peer.opened == 2


async def test_a_new_connection_that_breaks_is_not_replaced() -> None:
    peer = Peer([b""])
    async with connected(peer.serve) as (connections, endpoint):
        with pytest.raises(ConnectionError):
            await post(connections, endpoint)
    assert peer.requests == 1


async def test_a_request_whose_answer_had_begun_is_not_sent_again() -> None:
    peer = Peer([OK, b"HTTP/1.1 200"], [OK])
    async with connected(peer.serve) as (connections, endpoint):
        await whole(await post(connections, endpoint))
        with pytest.raises(ConnectionError):
            await post(connections, endpoint)
    assert peer.requests == 2


async def test_a_body_cut_short_is_an_error_not_an_end() -> None:
    async with connected(Peer([OK[:-1]]).serve) as (connections, endpoint):
        connection = await post(connections, endpoint)
        with pytest.raises(ConnectionError):
            await whole(connection)


async def test_what_is_no_http_is_an_error() -> None:
    async with connected(Peer([b"+PONG\r\n"]).serve) as (connections, endpoint):
        with pytest.raises(ConnectionError, match="no HTTP"):
            await post(connections, endpoint)


async def test_a_peer_that_says_nothing_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex.gateway.connections._HEAD_S", 0.02)
    peer = Peer([None])
    async with connected(peer.serve) as (connections, endpoint):
        with pytest.raises(TimeoutError):
            await post(connections, endpoint)
        async with asyncio.timeout(5):
            await peer.closed.wait()


async def test_giving_up_before_the_answer_closes_the_connection() -> None:
    peer = Peer([None])
    async with connected(peer.serve) as (connections, endpoint):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await post(connections, endpoint)
        async with asyncio.timeout(5):
            await peer.closed.wait()


async def test_aborting_wakes_the_reader() -> None:
    """The poller breaks off what runs on a neuron that is down."""
    async with connected(Peer([OK[:-1], None]).serve) as (connections, endpoint):
        connection = await post(connections, endpoint)
        assert await connection.read() == b"o"
        reading = asyncio.ensure_future(connection.read())
        await asyncio.sleep(0)
        connection.abort()
        with pytest.raises(ConnectionAbortedError):
            await reading


async def test_a_connection_released_before_its_end_is_kept_when_the_end_comes() -> None:
    rest = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"body")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
        await rest.wait()
        writer.write(b"0\r\n\r\n")
        await reader.readuntil(b"body")
        writer.write(OK)
        writer.close()

    async with connected(serve) as (connections, endpoint):
        first = await post(connections, endpoint)
        assert await first.read() == b"ok"
        first.release()
        rest.set()
        async with asyncio.timeout(5):
            while not connections._free[endpoint]:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.001)
        assert await post(connections, endpoint) is first


async def test_a_connection_whose_end_does_not_come_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex.gateway.connections._TAIL_S", 0.02)
    peer = Peer([OK[:-1], None])
    async with connected(peer.serve) as (connections, endpoint):
        (await post(connections, endpoint)).release()
        async with asyncio.timeout(5):
            await peer.closed.wait()


async def test_a_slow_reader_holds_a_fast_peer_back_and_loses_nothing() -> None:
    size = 4 * 2**20
    async with connected(Peer([b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size)]).serve) as (
        connections,
        endpoint,
    ):
        connection = await post(connections, endpoint)
        while connection._buffered <= 256 * 1024:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        assert connection._buffered < size
        assert len(await whole(connection)) == size
