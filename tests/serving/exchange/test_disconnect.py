"""A client that goes away takes its request with it: streamed or not, before the first token and after it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from cortex.config.settings import Config, LimitsConfig
from cortex.serving.exchange.backend import Emit
from cortex.wire.events import Progress, Started, TextDelta
from cortex.wire.inference import Request
from tests.serving.conftest import Running, Serve, until
from tests.serving.fake_backend import FakeBackend, Pause, plain

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    "/v1/responses": {"input": "hi"},
}


async def connect(
    running: Running, path: str, stream: bool, **more: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request over a bare socket, so that the test decides how the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    body = json.dumps({"model": "demo", "stream": stream} | BODIES[path] | more).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer


async def cancelled(running: Running) -> None:
    await until(lambda: running.backend.ended.is_set() and not running.lifecycle.in_flight and running.records)
    assert running.backend.cancelled == [request.id for request in running.backend.requests]
    assert running.backend.running == 0
    assert [record.ended for record in running.records] == ["cancelled"]
    assert running.records[0].status == 499


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "begun", [[], [[Progress("loading", 1, 9)]], [[Started(5)]], [[Started(5)], [TextDelta("a")]]], ids=str
)
async def test_a_closed_connection_cancels_the_request(serve: Serve, path: str, stream: bool, begun: list[Any]) -> None:
    pause = Pause()
    async with serve(FakeBackend(lambda _: [*begun, pause, *plain("late")])) as running:
        _, writer = await connect(running, path, stream)
        async with asyncio.timeout(60):
            await pause.reached.wait()
        writer.close()
        await cancelled(running)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("begun", [[], [[Started(5)], [TextDelta("a")]]], ids=["waiting", "generating"])
async def test_a_half_closed_connection_counts_as_gone(serve: Serve, stream: bool, begun: list[Any]) -> None:
    """A client that ends its sending side is taken for gone: most that do so are."""
    pause = Pause()
    async with serve(FakeBackend(lambda _: [*begun, pause, *plain("late")])) as running:
        _, writer = await connect(running, "/v1/chat/completions", stream)
        async with asyncio.timeout(60):
            await pause.reached.wait()
        writer.write_eof()
        await cancelled(running)
        writer.close()


async def test_a_client_that_stops_reading_is_cut_off_at_the_deadline(serve: Serve) -> None:
    """A full socket doesn't hold a sequence for ever."""
    backend = FakeBackend(lambda _: [[Started(5)], *([[TextDelta("x" * 65536)]] * 1000)])
    config = Config(limits=LimitsConfig(stall_s=0.3))
    async with serve(backend, config) as running:
        _, writer = await connect(running, "/v1/chat/completions", stream=True)
        async with asyncio.timeout(60):
            await backend.ended.wait()
        assert backend.cancelled
        writer.close()


async def test_every_part_of_a_batch_is_cancelled(serve: Serve) -> None:
    pauses: list[Pause] = []

    def script(_: object) -> list[Any]:
        pauses.append(Pause())
        return [[Started(5)], pauses[-1]]

    async with serve(FakeBackend(script)) as running:
        _, writer = await connect(running, "/v1/completions", stream=True, prompt=["a", "b", "c"])
        await until(lambda: len(running.backend.requests) == 3)
        writer.close()
        await until(lambda: not running.backend.running)
        assert len(running.backend.cancelled) == 3


async def test_a_finished_request_is_not_cancelled(serve: Serve) -> None:
    async with serve() as running:
        body = {"model": "demo", **BODIES["/v1/chat/completions"]}
        for stream in (True, False):
            reply = await running.http.post("/v1/chat/completions", json=body | {"stream": stream})
            assert reply.status_code == 200
    assert running.backend.cancelled == []
    assert [record.ended for record in running.records] == ["ok", "ok"]


async def test_a_backend_that_fails_while_it_is_cancelled_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is left to be told, so the log is; in flight it doesn't stay."""
    pause = Pause()

    class Clumsy(FakeBackend):
        async def serve(self, request: Request, emit: Emit) -> None:
            try:
                emit([Started(5)])
                await pause.wait()
            finally:
                raise RuntimeError("cleaning up failed")

    async with serve(Clumsy()) as running:
        _, writer = await connect(running, "/v1/chat/completions", stream=True)
        await asyncio.wait_for(pause.reached.wait(), 60)
        writer.close()
        await until(lambda: not running.lifecycle.in_flight)
    assert "ending a request failed" in caplog.text


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        await writer.drain()
        writer.close()
        reply = await running.http.post("/v1/completions", json={"model": "demo", "prompt": "x"})
        assert reply.status_code == 200
    assert len(running.backend.requests) == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_body_that_does_not_come_is_not_waited_for_without_end(serve: Serve) -> None:
    async with serve(config=Config(limits=LimitsConfig(stall_s=0.1))) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 400")
        writer.close()
