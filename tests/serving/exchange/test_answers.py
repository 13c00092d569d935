"""How answers are written: what opens them, what order holds, what comes last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from cortex.dialects.openai.objects import openai_error
from cortex.errors import CortexError, Overloaded
from cortex.serving.exchange.answers import StreamAnswer, WholeAnswer
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
    """An ASGI `send` that can be held up, as by a client that reads slowly."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, message: Any) -> None:
        await self.open.wait()
        self.messages.append(message)

    @property
    def body(self) -> str:
        return b"".join(message.get("body", b"") for message in self.messages).decode()

    @property
    def status(self) -> int | None:
        return self.messages[0]["status"] if self.messages else None


async def _nothing() -> None:
    pass


def stream(wire: Wire, parts: int = 1, before_end: Any = _nothing) -> StreamAnswer:
    return StreamAnswer(wire.send, Numbering(), [(b"x-request-id", b"req")], parts, before_end)


async def test_waiting_does_not_open_the_answer() -> None:
    wire = Wire()
    answer = stream(wire)
    await answer.feed(0, [Progress("queued"), Progress("loading")])
    assert wire.messages == []
    assert not answer.is_open


async def test_what_was_rendered_while_waiting_comes_first() -> None:
    wire = Wire()
    answer = stream(wire)
    await answer.feed(0, [Progress("queued")])
    await answer.feed(0, [Started(1)])
    assert wire.body == "1:Progress 2:Started "
    assert wire.status == 200


async def test_a_beat_opens_with_what_was_rendered_before_and_only_once() -> None:
    wire = Wire()
    answer = stream(wire)
    await answer.feed(0, [Progress("queued")])
    await answer.beat()
    await answer.feed(0, [Started(1)])
    assert wire.body == "1:Progress 2:beat 3:Started "


async def test_the_last_frame_ends_the_response_in_the_same_write() -> None:
    wire = Wire()
    await stream(wire).feed(0, [Started(1), TextDelta("a"), END])
    assert [message.get("more_body") for message in wire.messages] == [None, False]


async def test_several_parts_end_with_the_last() -> None:
    wire = Wire()
    answer = stream(wire, parts=2)
    await answer.feed(0, [Started(1), END])
    await answer.feed(1, [Started(1), END])
    assert [message["more_body"] for message in wire.messages[1:]] == [True, False]


async def test_no_frame_overtakes_another() -> None:
    """A beat that falls due while a write waits for the client stays away; frames leave in the order they were made."""
    wire = Wire()
    answer = stream(wire)
    await answer.feed(0, [Started(1)])
    wire.open.clear()
    first = asyncio.create_task(answer.feed(0, [TextDelta("a")]))
    await asyncio.sleep(0)
    beat = asyncio.create_task(answer.beat())
    await asyncio.sleep(0)
    assert beat.done()
    wire.open.set()
    await first
    held = asyncio.create_task(answer.beat())
    await answer.feed(0, [TextDelta("b"), END])
    await held
    numbers = [int(frame.split(":")[0]) for frame in wire.body.split()]
    assert numbers == sorted(numbers)
    assert wire.messages[-1]["more_body"] is False


async def test_nothing_is_written_after_the_end() -> None:
    wire = Wire()
    answer = stream(wire)
    await answer.feed(0, [Started(1), END])
    written = len(wire.messages)
    await answer.beat()
    assert len(wire.messages) == written


async def test_a_failure_before_the_opening_is_an_http_error() -> None:
    wire = Wire()
    answer = stream(wire)
    await answer.feed(0, [Progress("queued")])
    await answer.fail(REPLY, FULL)
    assert wire.status == 503
    assert (b"retry-after", b"2") in wire.messages[0]["headers"]
    assert (b"x-request-id", b"req") in wire.messages[0]["headers"]


async def test_a_failure_after_the_opening_is_a_last_frame() -> None:
    wire = Wire()
    answer = stream(wire)
    await answer.feed(0, [Started(1)])
    await answer.fail(REPLY, FULL)
    assert wire.body == "1:Started 2:server_is_overloaded "
    assert wire.messages[-1]["more_body"] is False


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_must_happen_before_the_end_happens_before_its_bytes_are_sent(streamed: bool) -> None:
    wire = Wire()
    seen: list[str] = []

    async def before_end() -> None:
        seen.append(wire.body)

    answer = stream(wire, before_end=before_end) if streamed else WholeAnswer(wire.send, Whole(), [], 1, before_end)
    await answer.feed(0, [Started(1), TextDelta("a")])
    await answer.feed(0, [END])
    assert seen == ["1:Started 2:TextDelta " if streamed else ""]
    assert wire.body != seen[0]


class Whole:
    def feed(self, part: int, events: Sequence[Event]) -> None:
        pass

    def finish(self) -> bytes:
        return b"{}"


async def test_a_whole_answer_says_its_length() -> None:
    wire = Wire()
    answer = WholeAnswer(wire.send, Whole(), [], 1, _nothing)
    await answer.beat()
    assert wire.messages == []
    await answer.feed(0, [Started(1), END])
    assert (b"content-length", b"2") in wire.messages[0]["headers"]
