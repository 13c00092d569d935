"""Trunks against scripted peers on real sockets: when one is shared, replaced, given up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from cortex.gateway.neurons.connection import ConnectionRefused, NeuronConnections, RequestStream
from cortex.gateway.neurons.fleet import Lost
from cortex.wire.events import ChoiceFinished, Event, Finished, Started, TextDelta
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.worker import Cancel, Emission, Emissions, Submit
from tests.fakes import chat

OK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END: list[Event] = [ChoiceFinished("stop"), Finished()]
Serve = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The neuron's end of one trunk. `hear` gives the next command, `say` one frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._commands = FrameDecoder(msgspec.msgpack.Decoder(Submit | Cancel))
        self._heard: list[Submit | Cancel] = []

    async def hear(self) -> Submit | Cancel:
        while not self._heard:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            self._heard += self._commands.feed((await self._reader.readexactly(size + 2))[:-2])
        return self._heard.pop(0)

    def say(self, *items: Emission) -> None:
        frame = encode_frame(Emissions(list(items)))
        self.raw(b"%x\r\n%b\r\n" % (len(frame), frame))

    def raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def closed(self) -> None:
        await self._reader.read()


class Neuron:
    """Serves its trunks by turns of `scripts`, the last one again and again."""

    def __init__(self, *scripts: Serve) -> None:
        self._scripts = list(scripts)
        self.opened = 0
        self.finished = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        self.opened += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await script(Peer(reader, writer))
        writer.close()
        self.finished.set()


@asynccontextmanager
async def connected(*scripts: Serve) -> AsyncIterator[tuple[NeuronConnections, str, Neuron]]:
    neuron = Neuron(*scripts)
    server = await asyncio.start_server(neuron.serve, "127.0.0.1", 0)
    connections = NeuronConnections(connect_s=60.0)
    try:
        async with asyncio.timeout(60):
            yield connections, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", neuron
    finally:
        connections.close()
        server.close()
        if neuron.tasks:
            await asyncio.wait(neuron.tasks, timeout=60)


async def ask(connections: NeuronConnections, endpoint: str, request_id: str = "r") -> RequestStream:
    return await connections.submit(endpoint, "", chat(job_id=request_id))


async def whole(stream: RequestStream) -> list[Event]:
    events: list[Event] = []
    while not events or not isinstance(events[-1], Finished):
        events += await stream.read()
    return events


async def echo(peer: Peer) -> None:
    """Answers every request at once with its id."""
    peer.raw(OK)
    while True:
        command = await peer.hear()
        assert isinstance(command, Submit)
        peer.say(Emission(command.request.id, [Started(1), TextDelta(command.request.id), *END]))


async def silent(peer: Peer) -> None:
    peer.raw(OK)
    await peer.closed()


async def test_one_frame_brings_every_stream_its_own_events() -> None:
    async def step(peer: Peer) -> None:
        peer.raw(OK)
        names = [
            command.request.id for command in [await peer.hear(), await peer.hear()] if isinstance(command, Submit)
        ]
        peer.say(*(Emission(name, [Started(1), TextDelta(f"for {name}")]) for name in names))
        peer.say(*(Emission(name, END) for name in names))
        await peer.closed()

    async with connected(step) as (connections, endpoint, neuron):
        streams = [await ask(connections, endpoint, name) for name in ("a", "b")]
        texts = [event.text for stream in streams for event in await whole(stream) if isinstance(event, TextDelta)]
        assert texts == ["for a", "for b"]
        assert neuron.opened == 1


async def test_requests_that_come_together_open_one_trunk() -> None:
    async with connected(echo) as (connections, endpoint, neuron):
        streams = await asyncio.gather(*(ask(connections, endpoint, str(number)) for number in range(5)))
        for stream in streams:
            assert isinstance((await whole(stream))[-1], Finished)
        assert neuron.opened == 1


async def test_closing_a_stream_early_is_a_cancel_and_leaves_the_others_alone() -> None:
    heard: list[Submit | Cancel] = []

    async def listen(peer: Peer) -> None:
        peer.raw(OK)
        heard.extend([await peer.hear(), await peer.hear(), await peer.hear()])
        peer.say(Emission("a", [TextDelta("too late")]), Emission("b", END))
        await peer.closed()

    async with connected(listen) as (connections, endpoint, _):
        a, b = await ask(connections, endpoint, "a"), await ask(connections, endpoint, "b")
        a.close()
        a.close()
        assert await whole(b) == END
        assert heard[2] == Cancel("a")
        with pytest.raises(Lost):
            await a.read()


async def test_a_stream_closed_behind_its_end_cancels_nothing() -> None:
    async def listen(peer: Peer) -> None:
        peer.raw(OK)
        await peer.hear()
        peer.say(Emission("a", END))
        assert isinstance(await peer.hear(), Submit)
        peer.say(Emission("b", END))
        await peer.closed()

    async with connected(listen) as (connections, endpoint, _):
        for name in ("a", "b"):
            stream = await ask(connections, endpoint, name)
            assert await whole(stream) == END
            stream.close()


async def test_a_broken_trunk_is_the_loss_of_all_its_streams_but_not_of_what_had_come() -> None:
    async def breaking(peer: Peer) -> None:
        peer.raw(OK)
        await peer.hear()
        await peer.hear()
        peer.say(Emission("a", [TextDelta("half")]))

    async with connected(breaking, echo) as (connections, endpoint, neuron):
        a, b = await ask(connections, endpoint, "a"), await ask(connections, endpoint, "b")
        assert await a.read() == [TextDelta("half")]
        for stream in (a, b):
            with pytest.raises(Lost) as caught:
                await stream.read()
            assert caught.value.unreachable.refused
        assert len(await whole(await ask(connections, endpoint))) == 4
        assert neuron.opened == 2


async def test_a_trunk_that_a_draining_neuron_ends_is_replaced() -> None:
    async def ending(peer: Peer) -> None:
        peer.raw(OK)
        await peer.hear()
        peer.say(Emission("a", END))
        peer.raw(b"0\r\n\r\n")
        await peer.closed()

    async with connected(ending, echo) as (connections, endpoint, neuron):
        assert await whole(await ask(connections, endpoint, "a")) == END
        await neuron.finished.wait()
        assert len(await whole(await ask(connections, endpoint, "b"))) == 4


async def test_a_long_silent_trunk_gets_no_new_requests_and_keeps_the_old(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()

    async def slow(peer: Peer) -> None:
        peer.raw(OK)
        await peer.hear()
        await go_on.wait()
        peer.say(Emission("a", END))
        await peer.closed()

    async with connected(slow, echo) as (connections, endpoint, neuron):
        old = await ask(connections, endpoint, "a")
        monkeypatch.setattr("cortex.gateway.neurons.connection._SILENT_S", -1.0)
        await whole(await ask(connections, endpoint, "b"))
        go_on.set()
        assert await whole(old) == END
        await neuron.finished.wait()  # the old one is closed behind its last stream
        assert neuron.opened == 2


async def test_the_middle_of_an_answer_may_be_taken_without_waking_its_reader() -> None:
    """Its beginning, what isn't wanted, and its end are read."""
    wanted = asyncio.Event()
    taken: list[Event] = []

    def take(events: list[Event]) -> bool:
        if not wanted.is_set():
            return False
        taken.extend(events)
        return True

    async def talk(peer: Peer) -> None:
        peer.raw(OK)
        await peer.hear()
        peer.say(Emission("a", [TextDelta("read")]))
        await wanted.wait()
        peer.say(Emission("a", [TextDelta("taken")]))
        peer.say(Emission("a", END))
        await peer.closed()

    async with connected(talk) as (connections, endpoint, _):
        stream = await ask(connections, endpoint, "a")
        stream.divert(take)
        assert await stream.read() == [TextDelta("read")]
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        wanted.set()
        assert await reading == END
        assert taken == [TextDelta("taken")]


async def test_what_the_taker_raises_is_its_readers_alone() -> None:
    def take(events: list[Event]) -> bool:
        raise ValueError("a bug")

    async def talk(peer: Peer) -> None:
        peer.raw(OK)
        await peer.hear()
        await peer.hear()
        peer.say(Emission("a", [TextDelta("x")]), Emission("b", END))
        await peer.closed()

    async with connected(talk) as (connections, endpoint, _):
        a, b = await ask(connections, endpoint, "a"), asyncio.create_task(whole(await ask(connections, endpoint, "b")))
        a.divert(take)
        with pytest.raises(ValueError, match="a bug"):
            await a.read()
        assert await b == END


async def test_a_refusal_tells_its_status_and_why() -> None:
    async def refuse(peer: Peer) -> None:
        peer.raw(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno")
        await peer.closed()

    async with connected(refuse) as (connections, endpoint, _):
        with pytest.raises(ConnectionRefused) as caught:
            await ask(connections, endpoint)
        assert (caught.value.status, caught.value.body) == (401, b"no")


@pytest.mark.parametrize(
    "words", [b"+PONG\r\n", OK + b"4\r\n\xff\xff\xff\xff\r\n", OK + b"5\r\n\x00\x00\x00\x01\xc1\r\n"]
)
async def test_what_is_no_event_breaks_the_trunk(words: bytes) -> None:
    async def babble(peer: Peer) -> None:
        peer.raw(words)
        await peer.closed()

    async with connected(babble) as (connections, endpoint, neuron):
        with pytest.raises(Lost, match="no event"):
            await (await ask(connections, endpoint)).read()
        await neuron.finished.wait()


async def test_a_neuron_that_opens_nothing_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex.gateway.neurons.connection._OPEN_S", 0.02)

    async def mute(peer: Peer) -> None:
        await peer.closed()

    async with connected(mute) as (connections, endpoint, neuron):
        with pytest.raises(TimeoutError):
            await ask(connections, endpoint)
        await neuron.finished.wait()


async def test_who_leaves_while_the_trunk_opens_leaves_it_to_the_others() -> None:
    async with connected(echo) as (connections, endpoint, neuron):
        first = asyncio.ensure_future(ask(connections, endpoint, "a"))
        second = asyncio.ensure_future(ask(connections, endpoint, "b"))
        await asyncio.sleep(0)
        first.cancel()
        assert len(await whole(await second)) == 4
        assert neuron.opened == 1


async def test_shutting_down_wakes_the_readers() -> None:
    async with connected(silent) as (connections, endpoint, _):
        stream = await ask(connections, endpoint)
        reading = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        connections.close()
        with pytest.raises(Lost, match="shutting down"):
            await reading
