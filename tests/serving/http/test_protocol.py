"""What real HTTP clients do to a connection: Java's offers HTTP/2 with every request."""

from __future__ import annotations

import asyncio
import json
import socket
from itertools import pairwise
from typing import Any

import pytest

from cortex.serving.exchange.response_writer import CONNECTION, ClientConnection
from cortex.serving.http.server import Server, server_config
from tests.serving.conftest import Running, Serve, until

BODY = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "hi"}]}).encode()
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
HEAD = b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: here\r\n" + OFFER
SIZED = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
PLAIN = b"GET /health HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


async def say(running: Running, *pieces: bytes) -> bytes:
    """What comes back until the server closes the connection; each piece is sent when the one before has arrived."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await running.http.get("/health")  # the server's loop has been round
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("request_bytes", [SIZED, CHUNKED], ids=["sized", "chunked"])
@pytest.mark.parametrize("cuts", [[], [20], [len(HEAD) - 30], [-len(BODY)], [len(HEAD) - 30, -5]])
async def test_an_offer_of_http2_costs_nothing(serve: Serve, request_bytes: bytes, cuts: list[int]) -> None:
    """Wherever the bytes are cut, the body arrives, and the connection goes on in HTTP/1.1."""
    edges = [0, *(cut % len(request_bytes) for cut in cuts), len(request_bytes)]
    pieces = [request_bytes[start:end] for start, end in pairwise(edges)]
    async with serve() as running:
        answers = await say(running, *pieces, PLAIN)
        assert running.backend.requests[0].id
    assert answers.count(b"HTTP/1.1 200") == 2
    assert b'"chat.completion"' in answers


async def test_a_tunnel_is_refused(serve: Serve) -> None:
    async with serve() as running:
        answer = await say(running, b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")


async def test_garbage_is_a_400(serve: Serve) -> None:
    async with serve() as running:
        assert (await say(running, b"\x16\x03\x01\x02\x00")).startswith(b"HTTP/1.1 400")


class Flooding:
    """An application that writes as long as its connection takes data, each write in one step of `send`."""

    def __init__(self) -> None:
        self.connection: ClientConnection | None = None
        self.gone = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        connection: ClientConnection = scope["extensions"][CONNECTION]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not connection.write_paused:
            with pytest.raises(StopIteration):
                send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True}).send(None)
        self.connection = connection
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()


async def test_an_application_knows_whether_its_connection_takes_data_and_can_cut_it() -> None:
    """What the response writer needs of uvicorn: `flow.write_paused`, a `send` that doesn't wait while it is False, and
    the transport. None of it is public: this fails with a uvicorn that has changed it."""
    app = Flooding()
    sock = socket.create_server(("127.0.0.1", 0))
    server = Server(server_config(app))
    serving = asyncio.create_task(server.serve([sock]))
    try:
        async with asyncio.timeout(60):
            await server.serving.wait()
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            await until(lambda: app.connection)
            assert app.connection is not None
            await reader.read(1 << 20)
            app.connection.abort()
            await app.gone.wait()
            writer.close()
    finally:
        server.stop()
        await serving
