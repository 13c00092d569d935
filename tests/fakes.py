"""Doubles for the gateway's tests: a neuron in memory, the same neuron behind a real socket, a clock moved by hand.

FakeNeuron keeps the promises a real neuron makes to a gateway (revisions, conflicts, a ledger, one boot per start) and
checks on its side that a gateway never asks for what must not happen.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Any

import msgspec

from cortex.errors import Conflict, CortexError, ModelLoadFailed, ModelNotFound, NoRoom
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
from cortex.wire.events import ChoiceFinished, Event, Finished, Started, TextDelta, Tokens, Usage, failed
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.inference import InferenceRequest, Message, Request, Sampling, Text
from cortex.wire.status import (
    Capabilities,
    DeviceStatus,
    Limits,
    LoadJob,
    LoadOrder,
    ModelCard,
    ModelState,
    ModelStatus,
    NeuronStatus,
    ProfilesMark,
    ProfilesOrder,
    Reservation,
    UnloadOrder,
)
from cortex.wire.worker import Cancel, Emission, Emissions, Submit

__all__ = ["FakeModel", "FakeNeuron", "FakeNeuronServer", "FakeNeurons", "ManualClock", "chat", "words"]

MIB = 2**20

Script = Callable[[Request], Sequence[list[Event]]]


class ManualClock:
    """Seconds that pass when the test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        self.now += seconds
        return self.now


def chat(
    model: str = "a",
    text: str = "hi",
    *,
    job_id: str = "r1",
    principal: str | None = None,
    temperature: float | None = None,
) -> InferenceRequest:
    """A small request."""
    return InferenceRequest(
        id=job_id,
        model=model,
        messages=[Message("user", [Text(text)])],
        principal=principal,
        sampling=Sampling(temperature=temperature),
        report_progress=True,
    )


def words(request: Request) -> list[list[Event]]:
    """The default script: "w0 w1 …" up to `max_output` (5), one token a frame; knows `replay` and `report_tokens`."""
    assert isinstance(request, InferenceRequest)
    total = request.max_output or 5
    frames: list[list[Event]] = [[Started(prompt_tokens=7)]]
    for token in range(len(request.replay), total):
        delta = TextDelta(f"w{token} ")
        frames.append([Tokens([token]), delta] if request.report_tokens else [delta])
    usage = Usage(prompt_tokens=7, completion_tokens=total)
    return [*frames, [ChoiceFinished("stop"), Finished(usage)]]


@dataclass
class FakeModel:
    """One model in the catalogue; `mib` is what it takes per device, `load_fails` how many loads fail first."""

    id: str
    mib: int = 100
    card: ModelCard | None = None
    load_s: float = 1.0
    load_fails: int = 0
    state: ModelState = "unloaded"
    servable: bool = True
    devices: list[str] = field(default_factory=list)
    running: int = 0
    used_at: float = 0.0
    progress: float = 0.0
    prefixes: list[int] = field(default_factory=list)
    error: str = ""

    def made_card(self) -> ModelCard:
        card = self.card or ModelCard(id=self.id, limits=Limits(context=4096), capabilities=Capabilities())
        return msgspec.structs.replace(card, size_bytes=self.mib * MIB)


class FakeNeuron:
    """`devices` are MiB each. Requests are counted with `began` and `ended`; loads take two steps, `start_load` and
    `finish_load`, unless `auto` finishes them in one."""

    def __init__(
        self, name: str, models: Sequence[FakeModel], devices: Sequence[int] = (150,), clock: ManualClock | None = None
    ) -> None:
        self.name = name
        self.clock = clock or ManualClock()
        self.models = {model.id: replace(model, devices=[]) for model in models}
        self.budget = {f"cpu{i}": mib * MIB for i, mib in enumerate(devices)}
        self.boots = count(1)
        self.boot = f"{name}-0"
        self.revision = 1
        self.draining = False
        self.alive = True
        self.hung = False
        self.loads: list[str] = []
        self.evictions: list[str] = []
        self.script: Script = words
        self.die_after: int | None = None
        self.gate: asyncio.Event | None = None
        self.seen: list[Request] = []
        self.profiles: ProfilesMark | None = None
        self.pushes: list[ProfilesOrder] = []

    # ---- life

    def kill(self) -> None:
        """SIGKILL: nothing answers, what was loaded and running is gone."""
        self.alive = False

    def restart(self) -> None:
        self.alive = True
        self.profiles = None
        self.boot = f"{self.name}-{next(self.boots)}"
        self.revision = 1
        for model in self.models.values():
            model.state, model.devices, model.running, model.error = "unloaded", [], 0, ""

    # ---- orders

    def start_load(self, order: LoadOrder) -> None:
        """Reserve, evicting first what the order says. Raises as a real neuron does; asserts what never may happen."""
        model = self._model(order.model)
        if model.state in ("ready", "loading"):
            return
        if order.revision is not None and order.revision != self.revision:
            raise Conflict(f"decided on revision {order.revision}, this is {self.revision}")
        for victim in order.evict:
            self._evict(victim)
        devices = order.devices or [next(iter(self.budget))]
        for device in devices:
            if self.held(device) + model.mib * MIB > self.budget[device]:
                raise NoRoom(f"{order.model} doesn't fit on {device}")
        model.state, model.devices = "loading", list(devices)
        self.loads.append(order.model)
        self.revision += 1

    def finish_load(self, name: str) -> None:
        """Raises ModelLoadFailed as often as the model is set to fail."""
        model = self._model(name)
        if model.state != "loading":
            return
        self.revision += 1
        if model.load_fails:
            model.load_fails -= 1
            model.state, model.devices, model.error = "failed", [], "the file is broken"
            raise ModelLoadFailed(f"{name}: the file is broken")
        model.state, model.used_at = "ready", self.clock()

    def unload(self, order: UnloadOrder) -> None:
        if order.revision is not None and order.revision != self.revision:
            raise Conflict(f"decided on revision {order.revision}, this is {self.revision}")
        self._vacate(self._model(order.model))

    def take_profiles(self, order: ProfilesOrder) -> None:
        if order.replaces != (self.profiles.hash if self.profiles else ""):
            raise Conflict("others meanwhile")
        self.profiles = ProfilesMark(blake2b(order.document, digest_size=8).hexdigest(), order.source)
        self.pushes.append(order)

    def _evict(self, name: str) -> None:
        model = self._model(name)
        assert model.running == 0, f"{name} was evicted while {model.running} requests ran on it"
        assert not model.made_card().pinned, f"{name} was evicted though pinned"
        assert model.state == "ready", f"{name} was evicted while {model.state}"
        self.evictions.append(name)
        self._vacate(model)

    def _vacate(self, model: FakeModel) -> None:
        model.state, model.devices = "unloaded", []
        self.revision += 1

    # ---- requests

    def began(self, name: str) -> None:
        model = self._model(name)
        model.running += 1
        model.used_at = self.clock()

    def ended(self, name: str) -> None:
        model = self.models[name]
        model.running = max(0, model.running - 1)
        model.used_at = self.clock()

    # ---- documents

    def digest(self) -> object:
        """Another one after every change that a neuron tells its gateways of."""
        models = [(m.state, m.servable, m.running, m.progress, m.error) for m in self.models.values()]
        return self.revision, self.draining, models

    def held(self, device: str) -> int:
        return sum(model.mib * MIB for model in self.models.values() if device in model.devices)

    def status(self) -> NeuronStatus:
        for device, budget in self.budget.items():
            assert self.held(device) <= budget, f"{self.name}/{device} holds more than its budget"
        return NeuronStatus(
            neuron=self.name,
            version="0",
            boot=self.boot,
            revision=self.revision,
            state="draining" if self.draining else "ready",
            devices=[self._device(device) for device in self.budget],
            workers=[],
            models=[self._status(model) for model in self.models.values()],
            ledger=[
                Reservation(device, model.id, model.mib * MIB)
                for model in self.models.values()
                for device in model.devices
            ],
            profiles=self.profiles,
        )

    def _device(self, device: str) -> DeviceStatus:
        budget, held = self.budget[device], self.held(device)
        return DeviceStatus(device, "cpu", device, device, budget, budget - held, budget, held, held)

    def _status(self, model: FakeModel) -> ModelStatus:
        return ModelStatus(
            card=model.made_card(),
            state=model.state,
            servable=model.servable and model.state == "ready",
            devices=list(model.devices),
            bytes=model.mib * MIB * len(model.devices),
            estimate_bytes=model.mib * MIB,
            load_seconds=model.load_s if model.state == "ready" else None,
            running=model.running,
            idle_s=max(0.0, self.clock() - model.used_at) if model.state == "ready" else 0.0,
            progress=model.progress,
            prefix_hashes=model.prefixes,
            prefix_block=1024,
            error=model.error,
        )

    def _model(self, name: str) -> FakeModel:
        if name not in self.models:
            raise ModelNotFound(f"no model {name!r}")
        return self.models[name]


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
            await server.up.wait()
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            self.neuron.kill()  # ends its connections
            server.leave()
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
