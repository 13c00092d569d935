"""How answers are written: what opens them, what order holds, what comes last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from cortex.dialects.openai.objects import openai_error
from cortex.errors import CortexError, Overloaded
from cortex.serving.exchange.answers import StreamAnswer, WholeAnswer
from cortex.serving.exchange.response_writer import CONNECTION, ResponseWriter
from cortex.serving.http.errors import ErrorReply
from cortex.wire.events import Event, Finished, Progress, Started, TextDelta

FULL = Overloaded("full", retry_after=2)
REPLY = ErrorReply.of(FULL, openai_error, "req")
END = Finished()


class Numbering:
    """A renderer whose frames are numbered in the order they are made."""

    def __init__(self) -> None:
        self.count = 0

    def feed(self, part: int, events: Sequence[Event]) -> bytes:
        return b"".join(self._frame(type(event).__name__) for event in events)

    def keepalive(self) -> bytes:
        return self._frame("beat")

    def fail(self, error: CortexError) -> bytes:
        return self._frame(error.code)

    def finish(self) -> bytes:
        return b"{}"

    def _frame(self, word: str) -> bytes:
        self.count += 1
        return f"{self.count}:{word} ".encode()


class Wire:
    """A server's connection that can be held up, as by a client that reads slowly."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.open = asyncio.Event()
        self.open.set()
        self.writer = ResponseWriter({"extensions": {CONNECTION: self}}, self.send, on_failure=lambda: None)  # type: ignore[typeddict-item]

    @property
    def write_paused(self) -> bool:
        return not self.open.is_set()

    def abort(self) -> None:
        raise AssertionError("nobody asked for it")

    async def send(self, message: Any) -> None:
        await self.open.wait()
        self.messages.append(message)

    @property
    def body(self) -> str:
        return b"".join(message.get("body", b"") for message in self.messages).decode()

    @property
    def status(self) -> int | None:
        return self.messages[0]["status"] if self.messages else None


def stream(wire: Wire, parts: int = 1) -> StreamAnswer:
    return StreamAnswer(wire.writer, Numbering(), [(b"x-request-id", b"req")], parts)


async def test_waiting_does_not_open_the_answer() -> None:
    wire = Wire()
    answer = stream(wire)
    answer.feed(0, [Progress("queued"), Progress("loading")])
    assert wire.messages == []
    assert not answer.is_open


async def test_what_was_rendered_while_waiting_comes_first() -> None:
    wire = Wire()
    answer = stream(wire)
    answer.feed(0, [Progress("queued")])
    answer.feed(0, [Started(1)])
    assert wire.body == "1:Progress 2:Started "
    assert wire.status == 200


async def test_a_beat_opens_with_what_was_rendered_before_and_only_once() -> None:
    wire = Wire()
    answer = stream(wire)
    answer.feed(0, [Progress("queued")])
    answer.beat()
    answer.feed(0, [Started(1)])
    assert wire.body == "1:Progress 2:beat 3:Started "


async def test_the_last_frame_ends_the_response_in_the_same_write() -> None:
    wire = Wire()
    answer = stream(wire)
    answer.feed(0, [Started(1), TextDelta("a"), END])
    answer.finish()
    assert [message.get("more_body") for message in wire.messages] == [None, False]


async def test_several_parts_end_with_the_last() -> None:
    wire = Wire()
    answer = stream(wire, parts=2)
    answer.feed(0, [Started(1), END])
    answer.feed(1, [Started(1), END])
    answer.finish()
    assert [message["more_body"] for message in wire.messages[1:]] == [True, False]


async def test_no_frame_overtakes_another() -> None:
    """A beat that falls due while data waits for the client stays away; frames leave in the order they were made."""
    wire = Wire()
    answer = stream(wire)
    answer.feed(0, [Started(1)])
    wire.open.clear()
    answer.feed(0, [TextDelta("a")])
    answer.beat()
    await asyncio.sleep(0)
    answer.feed(0, [TextDelta("b")])
    wire.open.set()
    answer.feed(0, [TextDelta("c")])
    await drained(wire)
    answer.beat()
    answer.feed(0, [TextDelta("d"), END])
    answer.finish()
    assert wire.body == "1:Started 2:TextDelta 3:TextDelta 4:TextDelta 5:beat 6:TextDelta 7:Finished "
    assert wire.messages[-1]["more_body"] is False


async def test_nothing_is_written_after_the_end() -> None:
    wire = Wire()
    answer = stream(wire)
    answer.feed(0, [Started(1), END])
    answer.beat()
    answer.finish()
    written = len(wire.messages)
    answer.beat()
    assert len(wire.messages) == written == 2


async def test_a_failure_before_the_opening_is_an_http_error() -> None:
    wire = Wire()
    answer = stream(wire)
    answer.feed(0, [Progress("queued")])
    answer.fail(REPLY, FULL)
    assert wire.status == 503
    assert (b"retry-after", b"2") in wire.messages[0]["headers"]
    assert (b"x-request-id", b"req") in wire.messages[0]["headers"]


async def test_a_failure_after_the_opening_is_a_last_frame() -> None:
    wire = Wire()
    answer = stream(wire)
    answer.feed(0, [Started(1)])
    answer.fail(REPLY, FULL)
    assert wire.body == "1:Started 2:server_is_overloaded "
    assert wire.messages[-1]["more_body"] is False


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_last_bytes_are_made_at_the_end_and_sent_when_they_may_be(streamed: bool) -> None:
    """In between, what must happen before the client reads them happens."""
    wire = Wire()
    whole = Whole()
    answer = stream(wire) if streamed else WholeAnswer(wire.writer, whole, [], 1)
    answer.feed(0, [Started(1), TextDelta("a")])
    answer.feed(0, [END])
    assert wire.body == ("1:Started 2:TextDelta " if streamed else "")
    assert whole.finished is not streamed
    answer.finish()
    assert wire.body == ("1:Started 2:TextDelta 3:Finished " if streamed else "{}")


class Whole:
    finished = False

    def feed(self, part: int, events: Sequence[Event]) -> None:
        pass

    def finish(self) -> bytes:
        self.finished = True
        return b"{}"


async def test_a_whole_answer_says_its_length() -> None:
    wire = Wire()
    answer = WholeAnswer(wire.writer, Whole(), [], 1)
    answer.beat()
    assert wire.messages == []
    answer.feed(0, [Started(1), END])
    answer.finish()
    assert (b"content-length", b"2") in wire.messages[0]["headers"]


async def drained(wire: Wire) -> None:
    async with asyncio.timeout(60):
        while wire.writer.blocked:  # noqa: ASYNC110 - a writer has no event for it
            await asyncio.sleep(0)
