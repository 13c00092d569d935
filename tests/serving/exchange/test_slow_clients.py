"""Events that come from outside the serving task, and clients that don't read as fast as they come."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httpx
import pytest

from cortex.config.settings import Config, LimitsConfig
from cortex.serving.exchange.answers import StreamAnswer
from cortex.serving.exchange.backend import Emit
from cortex.serving.exchange.response_writer import MAX_UNSENT_BYTES, ResponseWriter
from cortex.wire.events import ChoiceFinished, Event, Finished, Started, TextDelta
from cortex.wire.inference import Request
from tests.serving.conftest import Serve, until
from tests.serving.exchange.test_disconnect import cancelled, connect
from tests.serving.fake_backend import FakeBackend

END: list[Event] = [ChoiceFinished("stop"), Finished()]
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


class Talking(FakeBackend):
    """Emits `count` words of `size` bytes from outside the serving task, which sleeps meanwhile; then the end; one
    that `hangs` goes on with dots. `said` counts."""

    def __init__(self, count: int, size: int = 0, *, hangs: bool = False) -> None:
        super().__init__()
        self.count, self.size, self.hangs = count, size, hangs
        self.said = 0

    async def serve(self, request: Request, emit: Emit) -> None:
        self.requests.append(request)
        self.running += 1
        over = asyncio.Event()
        try:
            emit([Started(1), TextDelta("w0 ")])
            talking = asyncio.create_task(self._talk(emit, over))
            try:
                await over.wait()
            finally:
                talking.cancel()
            emit(END)
        except asyncio.CancelledError:
            self.cancelled.append(request.id)
            raise
        finally:
            self.running -= 1
            self.ended.set()

    async def _talk(self, emit: Emit, over: asyncio.Event) -> None:
        while self.said < self.count:
            self.said += 1
            emit([TextDelta("x" * self.size or f"w{self.said} ")])
            if self.size:
                await asyncio.sleep(0)
        self.begun.set()
        while self.hangs:
            emit([TextDelta(".")])
            await asyncio.sleep(0.02)
        over.set()


async def test_batches_from_elsewhere_come_in_order_and_are_measured(serve: Serve) -> None:
    async with serve(Talking(5)) as running:
        reply = await running.http.post("/v1/chat/completions", json=CHAT | {"stream": True})
    words = [part.split('"')[0] for part in reply.text.split('"content":"')[2:]]
    assert words == ["w0 ", "w1 ", "w2 ", "w3 ", "w4 ", "w5 "]
    assert reply.text.endswith("data: [DONE]\n\n")
    assert len(running.records[0].inter_token_s) == 5


async def test_an_answer_that_is_collected_comes_the_same_way(serve: Serve) -> None:
    async with serve(Talking(5)) as running:
        reply = await running.http.post("/v1/chat/completions", json=CHAT)
    assert reply.json()["choices"][0]["message"]["content"] == "w0 w1 w2 w3 w4 w5 "


async def test_a_client_that_reads_late_still_gets_everything(serve: Serve) -> None:
    """What its connection doesn't take waits, up to the bound."""
    backend = Talking(40, MAX_UNSENT_BYTES // 40)
    async with serve(backend) as running:
        reader, writer = await connect(running, "/v1/chat/completions", stream=True)
        async with asyncio.timeout(60):
            await backend.ended.wait()
            seen = b""
            while not seen.endswith(b"[DONE]\n\n\r\n0\r\n\r\n"):
                seen += await reader.read(1 << 20)
        writer.close()
    assert seen.count(b"x" * backend.size) == backend.said == 40


async def test_a_client_that_does_not_read_loses_its_own_request_alone(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Talking(10_000, 1 << 16)
    async with serve(backend) as running:
        reader, writer = await connect(running, "/v1/chat/completions", stream=True)
        await cancelled(running)
        backend.count = backend.said = 0
        reply = await running.http.post("/v1/chat/completions", json=CHAT)
        assert reply.status_code == 200
        seen = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                seen += data
        writer.close()
    assert b"[DONE]" not in seen
    assert "client is too slow" in caplog.text


async def test_a_client_that_takes_nothing_for_long_is_dropped_for_it_and_not_for_a_stall(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are stamped where they arrive: a slow reader doesn't make its neuron look stalled. The bound isn't
    reached."""
    monkeypatch.setattr("cortex.serving.exchange.exchange.ResponseWriter", _unbounded)
    backend = Talking(200, 1 << 16, hangs=True)
    async with serve(backend, Config(limits=LimitsConfig(stall_s=0.3))) as running:
        _, writer = await connect(running, "/v1/chat/completions", stream=True)
        await cancelled(running)
        writer.close()
    assert [record.why for record in caplog.records if hasattr(record, "why")] == ["it took nothing for 0.3 s"]


def _unbounded(*arguments: Any, **options: Any) -> ResponseWriter:
    return ResponseWriter(*arguments, **options, max_unsent_bytes=1 << 40)


async def test_a_client_that_leaves_while_data_waits_for_it_is_gone(serve: Serve) -> None:
    backend = Talking(40, MAX_UNSENT_BYTES // 40, hangs=True)
    async with serve(backend) as running:
        _, writer = await connect(running, "/v1/chat/completions", stream=True)
        async with asyncio.timeout(60):
            await backend.begun.wait()
        writer.transport.abort()
        await cancelled(running)


async def test_an_answer_that_cannot_be_rendered_ends_with_an_error_of_its_own(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever emits never hears of it: other requests' events are on the same stack."""
    feed = StreamAnswer.feed

    def failing(self: StreamAnswer, part: int, events: list[Event]) -> None:
        if any(isinstance(event, TextDelta) and event.text == "w3 " for event in events):
            raise RuntimeError("a bug")
        feed(self, part, events)

    monkeypatch.setattr(StreamAnswer, "feed", failing)
    async with serve(Talking(5)) as running:
        reply = await running.http.post("/v1/chat/completions", json=CHAT | {"stream": True})
        await until(lambda: running.records)
    assert '"error"' in reply.text
    assert "w2 " in reply.text
    assert running.records[0].ended == "error"
    assert "a bug" in caplog.text


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_write_that_fails_ends_the_answer(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at_once: bool
) -> None:
    """On the stack of whoever emits, or later, in the task that sends what had to wait."""

    def failing(scope: Any, send: Any, **options: Any) -> ResponseWriter:
        async def send_or_fail(message: Any) -> None:
            if b"w3 " in message.get("body", b""):
                raise RuntimeError("a bug")
            await send(message)

        return ResponseWriter(scope if at_once else {}, send_or_fail, **options)  # type: ignore[typeddict-item]

    monkeypatch.setattr("cortex.serving.exchange.exchange.ResponseWriter", failing)
    backend = Talking(5, hangs=True)
    async with serve(backend) as running:
        with contextlib.suppress(httpx.RemoteProtocolError):  # what could not be written has no end
            reply = await running.http.post("/v1/chat/completions", json=CHAT | {"stream": True})
            assert '"error"' in reply.text
        await until(lambda: running.records)
    assert running.records[0].ended == "error"
    assert backend.cancelled
    assert "a bug" in caplog.text
