"""Doubles for the gateway's side of a neuron: its client in memory, and a server on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from cortex.errors import CortexError
from cortex.gateway.neurons.client import EventStream, Lost
from cortex.gateway.neurons.fleet import Neuron
from cortex.wire.events import Event
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
from tests.fake_neuron import FakeModel, FakeNeuron, ManualClock, chat, words

__all__ = ["FakeModel", "FakeNeuron", "FakeNeuronServer", "FakeNeurons", "ManualClock", "chat", "words"]


class FakeStream:
    """The answer to one request, made by the neuron's script; the neuron's `gate` holds it after the first frame."""

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
    """`gateway.neurons.client.Neurons` over FakeNeurons. `loading`, if set, holds every load until it is set. With
    `drains` a load waits until its victims are idle, as on a real neuron: with several gateways none of them can know
    that they are. With `pushes` status documents are pushed; `polls` counts those that were polled."""

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
        """Each changed document, if `pushes` is set."""
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
