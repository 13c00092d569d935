"""A connection against scripted peers on real sockets: what is shared, what a break is, what is refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortex.errors import Conflict, PayloadTooLarge, Unauthorized
from cortex.gateway.neurons import connection as connection_module
from cortex.gateway.neurons.connection import NeuronConnection, connect
from cortex.gateway.neurons.fleet import Lost
from cortex.gateway.neurons.request_stream import RequestStream
from cortex.gateway.neurons.uploads import PART_BYTES
from cortex.wire.connection import (
    LoadCommand,
    OrderReply,
    StatusPush,
    StatusRequest,
    SubmitPart,
    ToNeuron,
    UnloadCommand,
)
from cortex.wire.events import ChoiceFinished, Event, Failed, Finished, Started, TextDelta
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.status import LoadJob, LoadOrder, NeuronStatus, UnloadOrder
from cortex.wire.worker import Cancel, Emission, Emissions, Submit
from tests.fake_neuron import FakeNeuron, chat

OK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END: list[Event] = [ChoiceFinished("stop"), Finished()]
Serve = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The neuron's end of one connection. `hear` gives the next command, `say` one frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self._reader, self._writer, self.head = reader, writer, head
        self._commands = FrameDecoder(msgspec.msgpack.Decoder(ToNeuron))
        self._heard: list[ToNeuron] = []

    async def hear(self) -> ToNeuron:
        while not self._heard:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            self._heard += self._commands.feed((await self._reader.readexactly(size + 2))[:-2])
        return self._heard.pop(0)

    def say(self, *items: Emission) -> None:
        self.frame(Emissions(list(items)))

    def frame(self, message: object) -> None:
        frame = encode_frame(message)
        self.raw(b"%x\r\n%b\r\n" % (len(frame), frame))

    def raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def closed(self) -> None:
        await self._reader.read()


class Stream:
    """A request and what has come for it."""

    def __init__(self, connection: NeuronConnection, request_id: str, text: str = "hi") -> None:
        self.events: list[Event] = []
        self.stream: RequestStream = connection.submit(chat(job_id=request_id, text=text), self.events.extend)

    async def whole(self) -> list[Event]:
        await self.stream.ended
        return self.events


class Gateway:
    """The near end: a connection, and what it reported."""

    def __init__(self) -> None:
        self.statuses: list[NeuronStatus] = []
        self.losses: list[str] = []

    async def connect(self, endpoint: str, token: str | None = None) -> NeuronConnection:
        def on_status(_: NeuronConnection, status: NeuronStatus) -> None:
            self.statuses.append(status)

        def on_lost(_: NeuronConnection, error: Lost) -> None:
            self.losses.append(str(error))

        return await connect(endpoint, token, 60.0, on_status, on_lost)


@asynccontextmanager
async def serving(script: Serve) -> AsyncIterator[str]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            await script(Peer(reader, writer, head))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(60):
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        if tasks:
            await asyncio.wait(tasks, timeout=60)


@asynccontextmanager
async def connected(script: Serve, gateway: Gateway | None = None) -> AsyncIterator[NeuronConnection]:
    async with serving(script) as endpoint:
        connection = await (gateway or Gateway()).connect(endpoint)
        try:
            yield connection
        finally:
            connection.break_off(Lost("the test is over"))


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

    async with connected(step) as connection:
        streams = [Stream(connection, name) for name in ("a", "b")]
        texts = [event.text for stream in streams for event in await stream.whole() if isinstance(event, TextDelta)]
        assert texts == ["for a", "for b"]


async def test_events_are_handed_on_without_waking_a_task() -> None:
    """The whole of a frame, before anything else runs."""
    order: list[str] = []

    async def talk(peer: Peer) -> None:
        peer.raw(OK)
        await peer.hear()
        await peer.hear()
        peer.say(Emission("a", [TextDelta("1")]), Emission("b", [TextDelta("2")]), Emission("a", END))
        await peer.closed()

    async with connected(talk) as connection:
        streams = [
            connection.submit(chat(job_id=name), lambda events, name=name: order.append(name)) for name in ("a", "b")
        ]
        streams[0].ended.add_done_callback(lambda _: order.append("ended"))
        await streams[0].ended
        assert order == ["a", "b", "a", "ended"]


async def test_closing_a_stream_early_is_a_cancel_and_leaves_the_others_alone() -> None:
    heard: list[ToNeuron] = []

    async def listen(peer: Peer) -> None:
        peer.raw(OK)
        heard.extend([await peer.hear(), await peer.hear(), await peer.hear()])
        peer.say(Emission("a", [TextDelta("too late")]), Emission("b", END))
        await peer.closed()

    async with connected(listen) as connection:
        a, b = Stream(connection, "a"), Stream(connection, "b")
        a.stream.close()
        a.stream.close()
        assert await b.whole() == END
        assert heard[2] == Cancel("a")
        assert a.events == []
        with pytest.raises(Lost):
            await a.whole()


async def test_a_stream_closed_behind_its_end_cancels_nothing() -> None:
    async def listen(peer: Peer) -> None:
        peer.raw(OK)
        await peer.hear()
        peer.say(Emission("a", END))
        assert isinstance(await peer.hear(), Submit)
        peer.say(Emission("b", END))
        await peer.closed()

    async with connected(listen) as connection:
        for name in ("a", "b"):
            stream = Stream(connection, name)
            assert await stream.whole() == END
            stream.stream.close()


async def test_a_broken_connection_is_the_loss_of_all_that_runs_on_it_but_not_of_what_had_come() -> None:
    async def breaking(peer: Peer) -> None:
        peer.raw(OK)
        await peer.hear()
        await peer.hear()
        await peer.hear()
        peer.say(Emission("a", [TextDelta("half")]))

    gateway = Gateway()
    async with connected(breaking, gateway) as connection:
        a, b = Stream(connection, "a"), Stream(connection, "b")
        load = asyncio.create_task(connection.load(LoadOrder("m")))
        for stream in (a, b):
            with pytest.raises(Lost):
                await stream.whole()
        with pytest.raises(Lost):
            await load
        assert a.events == [TextDelta("half")]
        assert len(gateway.losses) == 1
        with pytest.raises(Lost):
            Stream(connection, "c")
        with pytest.raises(Lost):
            await connection.load(LoadOrder("m"))


async def test_a_draining_neuron_ends_the_connection_when_it_is_empty() -> None:
    async def ending(peer: Peer) -> None:
        peer.raw(OK)
        await peer.hear()
        peer.say(Emission("a", END))
        peer.raw(b"0\r\n\r\n")
        await peer.closed()

    gateway = Gateway()
    async with connected(ending, gateway) as connection:
        assert await Stream(connection, "a").whole() == END
        await connection.closed
        assert len(gateway.losses) == 1


async def test_a_retired_connection_ends_behind_its_last_request_and_order() -> None:
    go_on = asyncio.Event()

    async def slow(peer: Peer) -> None:
        peer.raw(OK)
        load = None
        for command in [await peer.hear(), await peer.hear()]:
            if isinstance(command, LoadCommand):
                load = command
        await go_on.wait()
        peer.say(Emission("a", END))
        assert load is not None
        peer.frame(OrderReply(load.id, LoadJob("j", "m", "ready")))
        await peer.closed()

    async with connected(slow) as connection:
        stream = Stream(connection, "a")
        load = asyncio.create_task(connection.load(LoadOrder("m")))
        await asyncio.sleep(0)
        connection.retire()
        go_on.set()
        assert await stream.whole() == END
        assert (await load).state == "ready"
        await connection.closed


async def test_what_a_taker_raises_is_its_owners_alone() -> None:
    def take(events: list[Event]) -> None:
        raise ValueError("a bug")

    heard: list[ToNeuron] = []

    async def talk(peer: Peer) -> None:
        peer.raw(OK)
        await peer.hear()
        await peer.hear()
        peer.say(Emission("a", [TextDelta("x")]), Emission("b", END))
        heard.append(await peer.hear())
        await peer.closed()

    async with connected(talk) as connection:
        a, b = connection.submit(chat(job_id="a"), take), Stream(connection, "b")
        with pytest.raises(ValueError, match="a bug"):
            await a.ended
        assert await b.whole() == END
        while not heard:  # noqa: ASYNC110 - the peer's
            await asyncio.sleep(0.002)
        assert heard == [Cancel("a")]


# ---- status and orders


async def test_statuses_are_reported_and_asked_for() -> None:
    status = FakeNeuron("n", []).status()

    async def talk(peer: Peer) -> None:
        peer.raw(OK)
        peer.frame(StatusPush(status))
        assert isinstance(await peer.hear(), StatusRequest)
        peer.frame(StatusPush(status))
        await peer.closed()

    gateway = Gateway()
    async with connected(talk, gateway) as connection:
        connection.request_status()
        while len(gateway.statuses) < 2:  # noqa: ASYNC110 - the peer's
            await asyncio.sleep(0.002)
        assert gateway.statuses == [status] * 2


async def test_each_order_gets_its_own_reply_in_whatever_order_they_come() -> None:
    async def talk(peer: Peer) -> None:
        peer.raw(OK)
        load, unload, refused = [await peer.hear() for _ in range(3)]
        assert isinstance(load, LoadCommand)
        assert isinstance(unload, UnloadCommand)
        assert isinstance(refused, LoadCommand)
        peer.frame(OrderReply(refused.id, error=Failed("conflict", "look again")))
        peer.frame(OrderReply(999))
        peer.frame(OrderReply(unload.id))
        peer.frame(OrderReply(load.id, LoadJob("j", "a", "ready")))
        await peer.closed()

    async with connected(talk) as connection:
        results = await asyncio.gather(
            connection.load(LoadOrder("a")),
            connection.unload(UnloadOrder("b")),
            connection.load(LoadOrder("c")),
            return_exceptions=True,
        )
        assert isinstance(results[0], LoadJob)
        assert results[1] is None
        assert isinstance(results[2], Conflict)


# ---- sizes


async def test_a_large_request_does_not_hold_up_what_comes_behind_it() -> None:
    """It is sent in parts, with other frames between them."""
    text = "x" * (200 * PART_BYTES)
    heard: list[ToNeuron] = []

    async def talk(peer: Peer) -> None:
        peer.raw(OK)
        while not heard or not (isinstance(heard[-1], SubmitPart) and heard[-1].last):
            heard.append(await peer.hear())
        data = b"".join(command.data for command in heard if isinstance(command, SubmitPart))
        submit = msgspec.msgpack.decode(data, type=Submit)
        peer.say(Emission(submit.request.id, [TextDelta(str(len(submit.request.messages[0].parts[0].text))), *END]))  # type: ignore[union-attr]
        await peer.closed()

    async with connected(talk) as connection:
        large, small = Stream(connection, "large", text), Stream(connection, "small")
        connection.request_status()
        assert (await large.whole())[0] == TextDelta(str(len(text)))
        small.stream.close()
    place = next(place for place, command in enumerate(heard) if isinstance(command, Submit))
    assert place < 100  # of more than 200 frames


async def test_a_large_request_that_is_cancelled_is_sent_no_further() -> None:
    heard: list[ToNeuron] = []

    async def talk(peer: Peer) -> None:
        peer.raw(OK)
        while not heard or not isinstance(heard[-1], Cancel):
            heard.append(await peer.hear())
        await peer.closed()

    async with connected(talk) as connection:
        Stream(connection, "large", "x" * (200 * PART_BYTES)).stream.close()
        await until(lambda: heard and isinstance(heard[-1], Cancel))
    assert len(heard) < 200


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not fact():  # noqa: ASYNC110 - the peer's
            await asyncio.sleep(0.002)


async def test_a_request_too_large_for_any_frame_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex.wire.framing.MAX_FRAME_BYTES", 1000)
    async with connected(echo) as connection:
        with pytest.raises(PayloadTooLarge):
            Stream(connection, "a", "x" * 2000)
        assert len(await Stream(connection, "b").whole()) == 4


# ---- refusals and nonsense


async def test_a_refusal_tells_why() -> None:
    async def refuse(peer: Peer) -> None:
        body = b'{"error":{"message":"no","code":"invalid_api_key"}}'
        peer.raw(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await peer.closed()

    async with serving(refuse) as endpoint:
        with pytest.raises(Unauthorized, match="no"):
            await Gateway().connect(endpoint)


async def test_another_version_is_told_so() -> None:
    async def old(peer: Peer) -> None:
        peer.raw(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}")
        await peer.closed()

    async with serving(old) as endpoint:
        with pytest.raises(Lost, match="another version"):
            await Gateway().connect(endpoint)


async def test_the_path_of_an_endpoint_and_the_token_are_kept() -> None:
    heads: list[bytes] = []

    async def look(peer: Peer) -> None:
        heads.append(peer.head)
        await silent(peer)

    async with serving(look) as endpoint:
        (await Gateway().connect(f"{endpoint}/behind/a/proxy", "secret")).break_off(Lost("enough"))
    assert heads[0].startswith(b"POST /behind/a/proxy/connection HTTP/1.1\r\n")
    assert b"authorization: Bearer secret\r\n" in heads[0]


@pytest.mark.parametrize(
    "words", [b"+PONG\r\n", OK + b"4\r\n\xff\xff\xff\xff\r\n", OK + b"5\r\n\x00\x00\x00\x01\xc1\r\n"]
)
async def test_what_is_no_frame_breaks_the_connection(words: bytes) -> None:
    async def babble(peer: Peer) -> None:
        peer.raw(words)
        await peer.closed()

    gateway = Gateway()
    async with serving(babble) as endpoint:
        with contextlib.suppress(Lost):
            await (await gateway.connect(endpoint)).closed
    assert "no frame" in gateway.losses[0]


async def test_a_neuron_that_opens_nothing_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_OPEN_S", 0.02)

    async def mute(peer: Peer) -> None:
        await peer.closed()

    async with serving(mute) as endpoint:
        with pytest.raises(Lost, match="didn't open"):
            await Gateway().connect(endpoint)


async def test_breaking_it_off_tells_everybody_on_it() -> None:
    async with connected(silent) as connection:
        stream = Stream(connection, "a")
        connection.break_off(Lost("the gateway is shutting down"))
        with pytest.raises(Lost, match="shutting down"):
            await stream.whole()


# ---- whatever the network does


def transcript(names: list[str]) -> bytes:
    """A neuron's bytes from its answer's head to the end of every request."""
    frames = [encode_frame(StatusPush(FakeNeuron("n", []).status()))]
    frames += [encode_frame(Emissions([Emission.of(name, [Started(1), TextDelta(name)])])) for name in names]
    frames.append(encode_frame(Emissions([Emission.of(name, [TextDelta(name)]) for name in names])))
    frames += [encode_frame(Emissions([Emission.of(name, list(END))])) for name in names]
    return OK + b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_every_request_ends_once_however_its_bytes_are_cut_and_wherever_they_end(data: st.DataObject) -> None:
    names = [f"r{number}" for number in range(3)]
    whole = transcript(names)
    end = data.draw(st.one_of(st.just(len(whole)), st.integers(len(OK), len(whole))), label="end")
    cuts = sorted(data.draw(st.lists(st.integers(0, end), max_size=12), label="cuts"))
    losses: list[Lost] = []
    connection = NeuronConnection(lambda *_: None, lambda _, error: losses.append(error))
    connection.connection_made(Pipe())
    streams = {name: Stream(connection, name) for name in names}
    for start, stop in zip([0, *cuts], [*cuts, end], strict=True):
        if start < stop:
            connection.data_received(whole[start:stop])
    connection.connection_lost(None)
    assert len(losses) == 1
    for name, stream in streams.items():
        ended = stream.stream.ended
        assert ended.done()
        ends = [event for event in stream.events if isinstance(event, Finished | Failed)]
        if ended.exception() is None:
            assert stream.events == [Started(1), TextDelta(name), TextDelta(name), *END]
            assert len(ends) == 1
        else:
            assert isinstance(ended.exception(), Lost)
            assert ends == []
    if end == len(whole):
        assert all(stream.stream.ended.exception() is None for stream in streams.values())


class Pipe(asyncio.Transport):
    """Takes everything."""

    closing = False

    def write(self, data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True
