"""Doubles for the gateway's tests: a neuron in memory, the same neuron behind a real socket, a clock moved by hand.

FakeNeuron keeps the promises a real neuron makes to a gateway (revisions, conflicts, a ledger, one boot per start) and
checks on its side that a gateway never asks for what must not happen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import count

import msgspec
from aiohttp import web

from cortex.errors import Conflict, CortexError, ModelLoadFailed, ModelNotFound, NoRoom
from cortex.gateway.neurons.client import EventStream, Lost
from cortex.gateway.neurons.fleet import Neuron
from cortex.wire.events import ChoiceFinished, Event, Finished, Started, TextDelta, Tokens, Usage
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
        neuron = self._neuron
        if self._sent and neuron.gate is not None:
            await self._first_of(neuron.gate)
        await asyncio.sleep(0)
        dies = neuron.die_after is not None and self._sent >= neuron.die_after
        if dies:
            neuron.kill()
        if self._closed.is_set() or not neuron.alive or neuron.boot != self._boot or not self._frames:
            raise Lost("connection reset", refused=True)
        self._sent += 1
        return self._frames.pop(0)

    def divert(self, take: Callable[[list[Event]], bool]) -> None:
        """Everything is read."""

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


class FakeNeurons:
    """`gateway.client.Neurons` over FakeNeurons. `loading` holds every load until it is set; with `drains` a busy
    victim is waited for, as a real neuron does: only a gateway that is alone can know that its victims are idle."""

    def __init__(self, *neurons: FakeNeuron) -> None:
        self.by_name = {neuron.name: neuron for neuron in neurons}
        self.loading: asyncio.Event | None = None
        self.drains = False
        self.pushes = False
        self.polls = 0

    async def status(self, neuron: Neuron) -> NeuronStatus:
        self.polls += 1
        return (await self._alive(neuron)).status()

    async def statuses(self, neuron: Neuron) -> AsyncGenerator[NeuronStatus, None]:
        """Pushes where `pushes` is set, at every change."""
        fake = await self._alive(neuron)
        if not self.pushes:
            raise Lost("it pushes nothing")
        told = -1
        while fake.alive:
            if fake.revision != told:
                told = fake.revision
                yield fake.status()
            await asyncio.sleep(0)
        raise Lost("connection reset", refused=True)

    async def load(self, neuron: Neuron, order: LoadOrder) -> LoadJob:
        fake = await self._alive(neuron)
        while self.drains and any(fake.models[victim].running for victim in order.evict):  # noqa: ASYNC110
            await asyncio.sleep(0)
        fake.start_load(order)
        boot = fake.boot
        if self.loading is not None:
            await self.loading.wait()
        if not fake.alive or fake.boot != boot:
            raise Lost("connection reset", refused=True)
        fake.finish_load(order.model)
        return LoadJob("j", order.model, "ready")

    async def unload(self, neuron: Neuron, order: UnloadOrder) -> None:
        (await self._alive(neuron)).unload(order)

    async def put_profiles(self, neuron: Neuron, order: ProfilesOrder) -> None:
        (await self._alive(neuron)).take_profiles(order)

    async def infer(self, neuron: Neuron, request: Request) -> EventStream:
        fake = await self._alive(neuron)
        fake.seen.append(request)
        return FakeStream(fake, request)

    async def _alive(self, neuron: Neuron) -> FakeNeuron:
        await asyncio.sleep(0)
        fake = self.by_name[neuron.name]
        if fake.hung:
            await asyncio.Event().wait()
        if not fake.alive:
            raise Lost("connection refused", refused=True)
        return fake


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
        app = web.Application()
        app.add_routes(
            [
                web.get("/status", self._status),
                web.get("/events", self._events),
                web.post("/models/load", self._load),
                web.post("/models/unload", self._unload),
                web.post("/trunk", self._trunk),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _status(self, request: web.Request) -> web.Response:
        return self._refused(request) or web.Response(body=msgspec.json.encode(self.neuron.status()))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/x-msgpack"})
        await response.prepare(request)
        told = -1
        while self.neuron.alive:
            if self.neuron.revision != told:
                told = self.neuron.revision
                await response.write(encode_frame(self.neuron.status()))
            await asyncio.sleep(0.002)
        return response

    async def _load(self, request: web.Request) -> web.Response:
        order = msgspec.json.decode(await request.read(), type=LoadOrder)
        try:
            self.neuron.start_load(order)
            self.neuron.finish_load(order.model)
        except CortexError as error:
            return _envelope(error)
        return web.Response(body=msgspec.json.encode(LoadJob("j", order.model, "ready")))

    async def _unload(self, request: web.Request) -> web.Response:
        try:
            self.neuron.unload(msgspec.json.decode(await request.read(), type=UnloadOrder))
        except CortexError as error:
            return _envelope(error)
        return web.Response(body=b"{}")

    async def _trunk(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request):
            return refused
        self.connections += 1
        response = web.StreamResponse(headers={"content-type": "application/x-msgpack"})
        await response.prepare(request)
        commands = FrameDecoder(msgspec.msgpack.Decoder(Submit | Cancel))
        runs: dict[str, asyncio.Task[None]] = {}
        try:
            async for data in request.content.iter_any():
                for command in commands.feed(data):
                    if isinstance(command, Submit):
                        runs[command.request.id] = asyncio.create_task(self._run(request, response, command.request))
                    else:
                        runs[command.request_id].cancel()
        finally:
            for run in runs.values():
                run.cancel()
        return response

    async def _run(self, request: web.Request, response: web.StreamResponse, asked: Request) -> None:
        self.neuron.seen.append(asked)
        stream = FakeStream(self.neuron, asked)
        try:
            while stream._frames:
                await response.write(encode_frame(Emissions([Emission(asked.id, await stream.read())])))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except Lost:
            assert request.transport is not None
            request.transport.abort()
        finally:
            stream.close()

    def _refused(self, request: web.Request) -> web.Response | None:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return web.Response(status=401, body=b'{"error":{"message":"no","code":"invalid_api_key"}}')
        return None


def _envelope(error: CortexError) -> web.Response:
    body = msgspec.json.encode({"error": {"message": error.message, "code": error.code, "param": error.param}})
    return web.Response(status=error.status, body=body)
