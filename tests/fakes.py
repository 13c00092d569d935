"""Doubles for the gateway's side of a neuron: connections in memory, and a server on a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from cortex.errors import CortexError
from cortex.gateway.neurons.fleet import Lost
from cortex.gateway.neurons.request_stream import EmitList, RequestStream
from cortex.serving.http.server import Server, server_config
from cortex.wire.connection import (
    LoadCommand,
    OrderReply,
    ProfilesCommand,
    StatusPush,
    StatusRequest,
    ToNeuron,
    UnloadCommand,
)
from cortex.wire.events import Event, failed
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.inference import Request
from cortex.wire.status import (
    LoadJob,
    LoadOrder,
    NeuronStatus,
    ProfilesOrder,
    UnloadOrder,
)
from cortex.wire.worker import Cancel, Emission, Emissions, Submit
from tests.fake_neuron import FakeNeuron

__all__ = ["FakeNeuronServer", "FakeNeurons"]


class FakeStream:
    """The answer to one request, from the neuron's script; `gate` holds it after the first frame."""

    def __init__(self, neuron: FakeNeuron, request: Request) -> None:
        self._neuron = neuron
        self._model = request.model
        self._boot = neuron.boot
        self._frames = list(neuron.script(request))
        self._sent = 0
        self._closed = asyncio.Event()
        self.open = True
        neuron.began(request.model)

    async def read(self) -> list[Event]:
        """The next frame. Raises Lost behind the last one, or when the neuron has died."""
        neuron = self._neuron
        if self._sent and neuron.gate is not None:
            await self._first_of(neuron.gate)
        await asyncio.sleep(0)
        dies = neuron.die_after is not None and self._sent >= neuron.die_after
        if dies:
            neuron.kill()
        if self._closed.is_set() or not neuron.alive or neuron.boot != self._boot or not self._frames:
            raise Lost("connection reset")
        self._sent += 1
        return self._frames.pop(0)

    def close(self) -> None:
        self._closed.set()
        if self.open:
            self.open = False
            if self._neuron.boot == self._boot:
                self._neuron.ended(self._model)

    async def _first_of(self, gate: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(gate.wait()), asyncio.ensure_future(self._closed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class FakeConnection:
    """`gateway.neurons.connections.Connection` to a FakeNeuron: pushes its status at every change, ends when it
    dies."""

    def __init__(
        self,
        fake: FakeNeuron,
        rules: FakeNeurons,
        on_status: Callable[[FakeConnection, NeuronStatus], None],
        on_lost: Callable[[FakeConnection, Lost], None],
    ) -> None:
        self._fake = fake
        self._rules = rules
        self._boot = fake.boot
        self._on_status = on_status
        self._on_lost = on_lost
        self._plays: set[asyncio.Task[None]] = set()
        self._streams: set[RequestStream] = set()
        self._retired = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        told = None
        while self._fake.alive and self._fake.boot == self._boot:
            if not self._fake.hung and (seen := self._fake.digest()) != told:
                told = seen
                self.request_status()
            await asyncio.sleep(0)
        self.break_off(Lost("connection reset"))

    def request_status(self) -> None:
        if not self._fake.hung and self._fake.alive:
            self._rules.pushes += 1
            self._on_status(self, self._fake.status())

    def silent_s(self) -> float:
        return 1e6 if self._fake.hung else 0.0

    def submit(self, request: Request, emit: EmitList) -> RequestStream:
        if self.closed.done() or not self._fake.alive:
            raise Lost("connection reset")
        self._fake.seen.append(request)
        script = FakeStream(self._fake, request)

        def left(stream: RequestStream) -> None:
            script.close()
            self._streams.discard(stream)
            self._end_if_retired()

        stream = RequestStream(request.id, emit, left)
        self._streams.add(stream)
        play = asyncio.create_task(self._play(stream, script))
        self._plays.add(play)
        play.add_done_callback(self._plays.discard)
        return stream

    async def _play(self, stream: RequestStream, script: FakeStream) -> None:
        try:
            while not stream.ended.done():
                stream.feed(await script.read())
        except Lost as lost:
            stream.lose(lost)
        finally:
            script.close()
            self._streams.discard(stream)
            self._end_if_retired()

    async def load(self, order: LoadOrder) -> LoadJob:
        fake = await self._alive()
        while self._rules.drains and any(fake.models[victim].running for victim in order.evict):  # noqa: ASYNC110
            await asyncio.sleep(0)
        try:
            fake.start_load(order)
            if self._rules.loading is not None:
                await self._rules.loading.wait()
            if not fake.alive or fake.boot != self._boot:
                raise Lost("connection reset")
            fake.finish_load(order.model)
        finally:
            self.request_status()
        return LoadJob("j", order.model, "ready")

    async def unload(self, order: UnloadOrder) -> None:
        fake = await self._alive()
        try:
            fake.unload(order)
        finally:
            self.request_status()

    async def put_profiles(self, order: ProfilesOrder) -> None:
        fake = await self._alive()
        try:
            fake.take_profiles(order)
        finally:
            self.request_status()

    def retire(self) -> None:
        self._retired = True
        self._end_if_retired()

    def _end_if_retired(self) -> None:
        if self._retired and not self._streams:
            self.break_off(Lost("retired"))

    def break_off(self, error: Lost) -> None:
        if self.closed.done():
            return
        self.closed.set_result(None)
        self._watching.cancel()
        for stream in list(self._streams):
            stream.lose(error)
        self._on_lost(self, error)

    async def _alive(self) -> FakeNeuron:
        await asyncio.sleep(0)
        if self._fake.hung:
            await asyncio.wait({self.closed})
        if self.closed.done() or not self._fake.alive:
            raise Lost("connection reset")
        return self._fake


class FakeNeurons:
    """Connects to FakeNeurons by their names as hosts. `loading` holds every load until it is set; with `drains` a busy
    victim is waited for, as a real neuron does: only a gateway that is alone can know that its victims are idle.
    `pushes` counts the statuses that were sent."""

    def __init__(self, *neurons: FakeNeuron) -> None:
        self.by_name = {neuron.name: neuron for neuron in neurons}
        self.loading: asyncio.Event | None = None
        self.drains = False
        self.pushes = 0

    async def connect(
        self,
        endpoint: str,
        token: str | None,
        connect_s: float,
        on_status: Callable[[FakeConnection, NeuronStatus], None],
        on_lost: Callable[[FakeConnection, Lost], None],
    ) -> FakeConnection:
        await asyncio.sleep(0)
        fake = self.by_name[endpoint.removeprefix("http://")]
        if not fake.alive:
            raise Lost("connection refused")
        return FakeConnection(fake, self, on_status, on_lost)


class FakeNeuronServer:
    """A FakeNeuron behind a loopback socket, speaking the neuron's HTTP."""

    def __init__(self, neuron: FakeNeuron, token: str | None = None) -> None:
        self.neuron = neuron
        self.token = token
        self.cancelled = 0
        self.connections = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Yields the endpoint."""
        sock = socket.create_server(("127.0.0.1", 0))
        server = Server(server_config(self))
        task = asyncio.create_task(server.serve([sock]))
        try:
            await server.serving.wait()
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            self.neuron.kill()  # ends its connections
            server.stop()
            await task

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif self.token and (b"authorization", f"Bearer {self.token}".encode()) not in scope["headers"]:
            await respond(send, 401, b'{"error":{"message":"no","code":"invalid_api_key"}}')
        elif scope["path"] == "/status":
            await respond(send, 200, msgspec.json.encode(self.neuron.status()))
        elif scope["path"] == "/connection":
            await self._connection(receive, send)
        else:
            await respond(send, 404, b"{}")

    async def _connection(self, receive: Any, send: Any) -> None:
        """Ends without an end of the body when the neuron dies: the server cuts the connection then."""
        self.connections += 1
        frames: asyncio.Queue[object] = asyncio.Queue()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        inner = FakeConnection(
            self.neuron,
            FakeNeurons(),
            lambda _, status: frames.put_nowait(StatusPush(status)),
            lambda _, error: frames.put_nowait(None),
        )
        reading = asyncio.create_task(self._read(receive, inner, frames))
        reading.add_done_callback(lambda _: frames.put_nowait(None))
        try:
            while (frame := await frames.get()) is not None:
                await send({"type": "http.response.body", "body": encode_frame(frame), "more_body": True})
        finally:
            reading.cancel()
            inner.break_off(Lost("the gateway has gone"))

    async def _read(self, receive: Any, inner: FakeConnection, frames: asyncio.Queue[object]) -> None:
        commands = FrameDecoder(msgspec.msgpack.Decoder(ToNeuron))
        streams: dict[str, RequestStream] = {}
        orders: set[asyncio.Task[None]] = set()
        while (message := await receive())["type"] == "http.request":
            for command in commands.feed(message["body"]):
                match command:
                    case Submit(request):
                        emit = partial(_emit_frame, frames, request.id)
                        streams[request.id] = inner.submit(request, emit)
                    case Cancel(request_id):
                        self.cancelled += not streams[request_id].ended.done()
                        streams[request_id].close()
                    case StatusRequest():
                        inner.request_status()
                    case _:
                        orders.add(asyncio.create_task(_carry_out(inner, command, frames)))


def _emit_frame(frames: asyncio.Queue[object], request_id: str, events: list[Event]) -> None:
    frames.put_nowait(Emissions([Emission(request_id, events)]))


async def _carry_out(inner: FakeConnection, command: Any, frames: asyncio.Queue[object]) -> None:
    try:
        match command:
            case LoadCommand(id_, order):
                reply = OrderReply(id_, await inner.load(order))
            case UnloadCommand(id_, order):
                await inner.unload(order)
                reply = OrderReply(id_)
            case ProfilesCommand(id_, source, replaces, document):
                await inner.put_profiles(ProfilesOrder(source, replaces, msgspec.Raw(document)))
                reply = OrderReply(id_)
    except CortexError as error:
        reply = OrderReply(command.id, error=failed(error))
    frames.put_nowait(reply)


async def respond(send: Any, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
