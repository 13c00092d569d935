"""The short way for the middle of an answer: beside what is yielded, in order, and never in a slow client's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from cortex.serving.exchange.answers import StreamAnswer
from cortex.serving.exchange.backend import Tap
from cortex.wire.events import ChoiceFinished, Event, Finished, Started, TextDelta
from cortex.wire.inference import Request
from tests.serving.conftest import Serve
from tests.serving.exchange.test_disconnect import cancelled, connect
from tests.serving.fake_backend import FakeBackend

END: list[Event] = [ChoiceFinished("stop"), Finished()]


class Tapping(FakeBackend):
    """Puts what it can into the tap, from outside the reader's task, until `last` words are out or the client stalls;
    `put` counts."""

    put = 0
    last = 5

    async def infer(self, request: Request, tap: Tap | None = None) -> AsyncGenerator[Sequence[Event], None]:
        assert tap is not None
        self.requests.append(request)
        self.running += 1
        try:
            yield [Started(1), TextDelta("w0 ")]
            await asyncio.create_task(self._talk(tap))
            yield [TextDelta("yielded ")]
            yield END
        finally:
            self.running -= 1
            self.ended.set()

    async def _talk(self, tap: Tap) -> None:
        while self.put < self.last and tap.ready():
            self.put += 1
            tap.put([TextDelta(f"w{self.put} ")])


class Stalling(Tapping):
    """Talks until its client takes no more, and leaves the rest to the reader."""

    last = 100_000

    async def _talk(self, tap: Tap) -> None:
        while tap.ready():
            self.put += 1
            tap.put([TextDelta("x" * 65536)])
        self.begun.set()


class Hanging(Stalling):
    """And then nothing more comes."""

    async def _talk(self, tap: Tap) -> None:
        await super()._talk(tap)
        await asyncio.Event().wait()


async def test_batches_from_the_tap_come_in_order_and_are_measured(serve: Serve) -> None:
    async with serve(Tapping()) as running:
        body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        reply = await running.http.post("/v1/chat/completions", json=body)
    words = [part.split('"')[0] for part in reply.text.split('"content":"')[2:]]
    assert words == ["w0 ", "w1 ", "w2 ", "w3 ", "w4 ", "w5 ", "yielded "]
    assert reply.text.endswith("data: [DONE]\n\n")
    assert len(running.records[0].inter_token_s) == 6


async def test_an_answer_that_is_collected_takes_the_tap_too(serve: Serve) -> None:
    async with serve(Tapping()) as running:
        body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
        reply = await running.http.post("/v1/chat/completions", json=body)
    assert reply.json()["choices"][0]["message"]["content"] == "w0 w1 w2 w3 w4 w5 yielded "


async def test_a_client_that_reads_slowly_closes_the_tap_and_still_gets_everything(serve: Serve) -> None:
    backend = Stalling()
    async with serve(backend) as running:
        reader, writer = await connect(running, "/v1/chat/completions", stream=True)
        async with asyncio.timeout(60):
            await backend.begun.wait()
            seen = b""
            while not seen.endswith(b"[DONE]\n\n\r\n0\r\n\r\n"):
                seen += await reader.read(1 << 20)
        writer.close()
    assert seen.count(b"x" * 65536) == backend.put
    assert seen.index(b"yielded") > seen.rindex(b"xx")


async def test_a_client_that_leaves_while_the_tap_waits_for_it_is_gone(serve: Serve) -> None:
    backend = Hanging()
    async with serve(backend) as running:
        _, writer = await connect(running, "/v1/chat/completions", stream=True)
        async with asyncio.timeout(60):
            await backend.begun.wait()
        writer.transport.abort()
        backend.cancelled = [request.id for request in backend.requests]
        await cancelled(running)


async def test_a_write_that_fails_after_its_wait_ends_the_answer(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = StreamAnswer._write

    async def failing(self: StreamAnswer, data: bytes, more: bool) -> None:
        if b"xx" in data:
            await asyncio.sleep(0)
            raise RuntimeError("a bug")
        await write(self, data, more)

    monkeypatch.setattr(StreamAnswer, "_write", failing)
    async with serve(Hanging()) as running:
        body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        reply = await running.http.post("/v1/chat/completions", json=body)
    assert '"error"' in reply.text
    assert running.records[0].ended == "error"
    assert "a bug" in caplog.text
