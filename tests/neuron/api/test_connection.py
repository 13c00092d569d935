"""A gateway's trunk into a whole neuron, spoken over bare ASGI messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from cortex.neuron.api.connection import ConnectionExchange
from cortex.neuron.api.infer import Message, Service
from cortex.wire.events import Event, Failed, Finished, Started
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.worker import Cancel, Emissions, Submit
from tests.neuron.conftest import until


class Gateway:
    """The far end of a trunk."""

    def __init__(self) -> None:
        self.down: asyncio.Queue[Message] = asyncio.Queue()
        self.frames: list[Emissions] = []
        self.ended = asyncio.Event()
        self._news = asyncio.Event()
        self._decoder = FrameDecoder(msgspec.msgpack.Decoder(Emissions))

    def say(self, *commands: Submit | Cancel) -> None:
        data = b"".join(encode_frame(command) for command in commands)
        self.down.put_nowait({"type": "http.request", "body": data, "more_body": True})

    def leave(self) -> None:
        self.down.put_nowait({"type": "http.disconnect"})

    async def send(self, message: Message) -> None:
        self.frames += self._decoder.feed(message.get("body", b""))
        if message["type"] == "http.response.body" and not message["more_body"]:
            self.ended.set()
        self._news.set()

    def events(self, request_id: str) -> list[Event]:
        items = [item for frame in self.frames for item in frame.items if item.request_id == request_id]
        return [event for item in items for event in item.events]

    async def until(self, request_id: str, kind: type[Event]) -> list[Event]:
        while not any(isinstance(event, kind) for event in self.events(request_id)):
            self._news.clear()
            await self._news.wait()
        return self.events(request_id)


@asynccontextmanager
async def trunk(neuron: object) -> AsyncIterator[Gateway]:
    daemon = neuron.neuron  # type: ignore[attr-defined]
    gateway = Gateway()
    exchange = ConnectionExchange(Service(daemon.backend, daemon.lifecycle))
    task = asyncio.create_task(exchange({}, gateway.down.get, gateway.send))
    async with asyncio.timeout(60):
        yield gateway
        gateway.leave()
        await task


async def test_requests_share_a_trunk_and_each_ends_once(bench) -> None:
    async with bench("m") as neuron, trunk(neuron) as gateway:
        requests = [neuron.request("m", "hello"), neuron.request("nope")]
        gateway.say(*map(Submit, requests))
        assert isinstance((await gateway.until(requests[0].id, Finished))[-1], Finished)
        (failure,) = await gateway.until(requests[1].id, Failed)
        assert failure.code == "model_not_found"


async def test_a_cancel_reaches_the_worker_and_leaves_the_others_alone(bench, tmp_path: Path) -> None:
    async with bench("m") as neuron, trunk(neuron) as gateway:
        doomed, other = (neuron.request("m", f"wait:{tmp_path / name}") for name in ("never", "later"))
        gateway.say(Submit(doomed), Submit(other))
        for request in (doomed, other):
            await gateway.until(request.id, Started)
        gateway.say(Cancel(doomed.id))
        (tmp_path / "later").touch()
        await gateway.until(other.id, Finished)
        assert isinstance(gateway.events(doomed.id)[-1], Started)
        await until(lambda: len(neuron.registry.active_requests) == 0)


async def test_a_gateway_that_goes_takes_its_requests_along(bench, tmp_path: Path) -> None:
    async with bench("m") as neuron:
        async with trunk(neuron) as gateway:
            request = neuron.request("m", f"wait:{tmp_path / 'never'}")
            gateway.say(Submit(request))
            await gateway.until(request.id, Started)
        assert len(neuron.registry.active_requests) == 0
        assert neuron.neuron.lifecycle.in_flight == 0


async def test_a_request_cut_by_the_drains_end_is_told_so_and_the_trunk_closes(bench, tmp_path: Path) -> None:
    async with bench("m") as neuron, trunk(neuron) as gateway:
        request = neuron.request("m", f"wait:{tmp_path / 'never'}")
        gateway.say(Submit(request))
        await gateway.until(request.id, Started)
        neuron.neuron.lifecycle.begin_drain()
        neuron.neuron.lifecycle.abort_running()
        assert (await gateway.until(request.id, Failed))[-1].code == "draining"
        await gateway.ended.wait()


async def test_a_request_behind_the_drains_begin_is_refused(bench, tmp_path: Path) -> None:
    async with bench("m") as neuron, trunk(neuron) as gateway:
        running, late = neuron.request("m", f"wait:{tmp_path / 'later'}"), neuron.request("m")
        gateway.say(Submit(running))
        await gateway.until(running.id, Started)
        neuron.neuron.lifecycle.begin_drain()
        gateway.say(Submit(late))
        assert (await gateway.until(late.id, Failed))[-1].code == "draining"
        (tmp_path / "later").touch()
        await gateway.until(running.id, Finished)
        await gateway.ended.wait()


async def test_what_is_no_command_ends_the_trunk(bench) -> None:
    async with bench("m") as neuron, trunk(neuron) as gateway:
        gateway.down.put_nowait({"type": "http.request", "body": b"\x00\x00\x00\x01\xc1", "more_body": True})
        await gateway.ended.wait()
