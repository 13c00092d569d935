"""A gateway's connection into a whole neuron, spoken over bare ASGI messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cortex.config.profiles import Profile, Profiles, encode_profiles
from cortex.neuron.api import connection as connection_module
from cortex.neuron.api.connection import GatewayConnection
from cortex.neuron.api.infer import InferContext
from cortex.neuron.api.orders import Orders
from cortex.neuron.api.status_pushes import StatusPushes
from cortex.wire.connection import (
    FromNeuron,
    LoadCommand,
    OrderReply,
    ProfilesCommand,
    StatusPush,
    StatusRequest,
    SubmitPart,
    ToNeuron,
    UnloadCommand,
)
from cortex.wire.events import Event, Failed, Finished, Started, TextDelta
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.status import LoadOrder, NeuronStatus, UnloadOrder
from cortex.wire.worker import Cancel, Emissions, Submit
from tests.neuron.conftest import until


class Gateway:
    """The far end of a connection. `writes` are the response's bodies as they were sent."""

    def __init__(self) -> None:
        self.down: asyncio.Queue[Any] = asyncio.Queue()
        self.frames: list[FromNeuron] = []
        self.writes = 0
        self.ended = asyncio.Event()
        self._news = asyncio.Event()
        self._decoder = FrameDecoder(msgspec.msgpack.Decoder(FromNeuron))

    def say(self, *commands: ToNeuron) -> None:
        data = b"".join(encode_frame(command) for command in commands)
        self.down.put_nowait({"type": "http.request", "body": data, "more_body": True})

    def leave(self) -> None:
        self.down.put_nowait({"type": "http.disconnect"})

    async def send(self, message: Any) -> None:
        self.frames += self._decoder.feed(message.get("body", b""))
        if message["type"] == "http.response.body":
            self.writes += 1
            if not message["more_body"]:
                self.ended.set()
        self._news.set()

    def events(self, request_id: str) -> list[Event]:
        items = [item for frame in self.frames if isinstance(frame, Emissions) for item in frame.items]
        return [event for item in items if item.request_id == request_id for event in item.events]

    @property
    def statuses(self) -> list[NeuronStatus]:
        return [frame.status for frame in self.frames if isinstance(frame, StatusPush)]

    async def until(self, request_id: str, kind: type[Event]) -> list[Event]:
        while not any(isinstance(event, kind) for event in self.events(request_id)):
            await self.news()
        return self.events(request_id)

    async def reply(self, id_: int) -> OrderReply:
        while not (found := [f for f in self.frames if isinstance(f, OrderReply) and f.id == id_]):
            await self.news()
        (reply,) = found
        return reply

    async def news(self) -> None:
        self._news.clear()
        await self._news.wait()


@asynccontextmanager
async def connection(neuron: Any) -> AsyncIterator[Gateway]:
    daemon = neuron.neuron
    gateway = Gateway()
    exchange = GatewayConnection(
        InferContext(daemon.backend, daemon.lifecycle),
        Orders(neuron.admin, neuron.registry),
        StatusPushes(neuron.manager, daemon.lifecycle, neuron.admin.status),
    )
    task = asyncio.create_task(exchange({}, gateway.down.get, gateway.send))  # type: ignore[arg-type]
    async with asyncio.timeout(60):
        yield gateway
        gateway.leave()
        await task


async def test_requests_share_a_connection_and_each_ends_once(bench) -> None:
    async with bench("m") as neuron, connection(neuron) as gateway:
        requests = [neuron.request("m", "hello"), neuron.request("nope")]
        gateway.say(*map(Submit, requests))
        assert isinstance((await gateway.until(requests[0].id, Finished))[-1], Finished)
        (failure,) = await gateway.until(requests[1].id, Failed)
        assert failure.code == "model_not_found"


async def test_a_cancel_reaches_the_worker_and_leaves_the_others_alone(bench, tmp_path: Path) -> None:
    async with bench("m") as neuron, connection(neuron) as gateway:
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
        async with connection(neuron) as gateway:
            request = neuron.request("m", f"wait:{tmp_path / 'never'}")
            gateway.say(Submit(request))
            await gateway.until(request.id, Started)
        assert len(neuron.registry.active_requests) == 0
        assert neuron.neuron.lifecycle.in_flight == 0


async def test_a_request_cut_by_the_drains_end_is_told_so_and_the_connection_closes(bench, tmp_path: Path) -> None:
    async with bench("m") as neuron, connection(neuron) as gateway:
        request = neuron.request("m", f"wait:{tmp_path / 'never'}")
        gateway.say(Submit(request))
        await gateway.until(request.id, Started)
        neuron.neuron.lifecycle.begin_drain()
        neuron.neuron.lifecycle.abort_running()
        assert (await gateway.until(request.id, Failed))[-1].code == "draining"
        await gateway.ended.wait()


async def test_a_request_behind_the_drains_begin_is_refused(bench, tmp_path: Path) -> None:
    async with bench("m") as neuron, connection(neuron) as gateway:
        running, late = neuron.request("m", f"wait:{tmp_path / 'later'}"), neuron.request("m")
        gateway.say(Submit(running))
        await gateway.until(running.id, Started)
        neuron.neuron.lifecycle.begin_drain()
        gateway.say(Submit(late))
        assert (await gateway.until(late.id, Failed))[-1].code == "draining"
        (tmp_path / "later").touch()
        await gateway.until(running.id, Finished)
        await gateway.ended.wait()


async def test_what_is_no_command_ends_the_connection(bench) -> None:
    async with bench("m") as neuron, connection(neuron) as gateway:
        gateway.down.put_nowait({"type": "http.request", "body": b"\x00\x00\x00\x01\xc1", "more_body": True})
        await gateway.ended.wait()


async def test_what_one_step_brings_to_all_requests_is_one_write(bench, tmp_path: Path) -> None:
    """The fake worker answers each request in a write of its own; what is read from it at once leaves at once."""
    async with bench("m") as neuron, connection(neuron) as gateway:
        warm = neuron.request("m", "hello")
        gateway.say(Submit(warm))
        await gateway.until(warm.id, Finished)
        requests = [neuron.request("m", f"wait:{tmp_path / 'later'}") for _ in range(8)]
        gateway.say(*map(Submit, requests))
        for request in requests:
            await gateway.until(request.id, Started)
        before = gateway.writes
        (tmp_path / "later").touch()
        for request in requests:
            await gateway.until(request.id, Finished)
        statuses = len(gateway.statuses)
        assert gateway.writes - before < len(requests) + statuses


async def test_events_are_passed_on_as_the_worker_encoded_them(bench) -> None:
    async with bench("m") as neuron, connection(neuron) as gateway:
        request = neuron.request("m", "hello")
        gateway.say(Submit(request))
        events = await gateway.until(request.id, Finished)
        assert TextDelta("echo hello") in events
        assert sum(isinstance(event, Started) for event in events) == 1


async def test_a_request_in_parts_is_one_request_and_a_cancelled_one_is_none(bench) -> None:
    async with bench("m") as neuron, connection(neuron) as gateway:
        whole, dropped = neuron.request("m", "hello"), neuron.request("m", "hello")
        data = msgspec.msgpack.encode(Submit(whole))
        gateway.say(SubmitPart(dropped.id, data[:9]), SubmitPart(whole.id, data[:20]), Cancel(dropped.id))
        gateway.say(SubmitPart(whole.id, data[20:], last=True))
        assert isinstance((await gateway.until(whole.id, Finished))[-1], Finished)
        assert gateway.events(dropped.id) == []


async def test_a_request_whose_parts_are_too_much_is_refused_alone(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MAX_FRAME_BYTES", 100)
    async with bench("m") as neuron, connection(neuron) as gateway:
        request = neuron.request("m", "hello")
        gateway.say(SubmitPart("big", b"x" * 101), Submit(request))
        (failure,) = await gateway.until("big", Failed)
        assert isinstance(failure, Failed)
        assert failure.code == "request_too_large"
        await gateway.until(request.id, Finished)


# ---- status and orders


async def test_the_status_comes_at_once_and_with_every_change(bench) -> None:
    async with bench("m") as neuron, connection(neuron) as gateway:
        while not gateway.statuses:
            await gateway.news()
        assert gateway.statuses[0].models[0].state == "unloaded"
        loading = asyncio.create_task(neuron.admin.load(LoadOrder("m")))
        while gateway.statuses[-1].models[0].state != "ready":
            await gateway.news()
        await loading
        (worker,) = neuron.registry.pool.all()
        worker.kill("a test")
        while not gateway.statuses[-1].workers[0].restarts:
            await gateway.news()
        neuron.neuron.lifecycle.begin_drain()
        await gateway.ended.wait()
        assert gateway.statuses[-1].state == "draining"


async def test_fresh_counts_come_while_requests_run(bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a decision depends on changes meanwhile: the counts alone are sent again."""
    monkeypatch.setattr("cortex.neuron.api.status_pushes._BUSY_S", 0.0)
    async with bench("m") as neuron, connection(neuron) as gateway:
        await neuron.ask("m")
        running = asyncio.create_task(neuron.ask("m", f"wait:{tmp_path / 'later'}"))
        await until(lambda: neuron.registry.models["m"].running == 1)
        for _ in range(3):
            seen = len(gateway.statuses)
            while len(gateway.statuses) == seen:
                await gateway.news()
        (tmp_path / "later").touch()
        await running


async def test_a_status_is_sent_when_it_is_asked_for(bench) -> None:
    async with bench("m") as neuron, connection(neuron) as gateway:
        while not gateway.statuses:
            await gateway.news()
        gateway.say(StatusRequest())
        while len(gateway.statuses) < 2:
            await gateway.news()


async def test_orders_are_answered_once_each_behind_the_status_that_shows_their_outcome(bench) -> None:
    async with bench("m", "bad") as neuron, connection(neuron) as gateway:
        gateway.say(LoadCommand(1, LoadOrder("m")))
        reply = await gateway.reply(1)
        assert reply.job is not None
        assert reply.job.state == "ready"
        shown = gateway.frames[gateway.frames.index(reply) - 1]
        assert isinstance(shown, StatusPush)
        assert shown.status.models[0].state == "ready" or shown.status.models[1].state == "ready"
        gateway.say(LoadCommand(2, LoadOrder("bad")), LoadCommand(3, LoadOrder("nope")))
        gateway.say(UnloadCommand(4, UnloadOrder("m", revision=-1)))
        codes = {id_: (await gateway.reply(id_)).error for id_ in (2, 3, 4)}
        assert [error.code for error in codes.values() if error] == [
            "model_load_failed",
            "model_not_found",
            "conflict",
        ]
        gateway.say(UnloadCommand(5, UnloadOrder("m")))
        assert await gateway.reply(5) == OrderReply(5)
        assert neuron.state("m") == "unloaded"


async def test_profiles_are_taken_before_the_reply(bench) -> None:
    document, hash_ = encode_profiles(Profiles(models=[Profile("m", aliases=["fast"])]))
    async with bench("m") as neuron, connection(neuron) as gateway:
        gateway.say(ProfilesCommand(1, "a gateway", "", document))
        assert await gateway.reply(1) == OrderReply(1)
        profiles = gateway.statuses[-1].profiles
        assert profiles is not None
        assert profiles.hash == hash_
        assert neuron.registry.models["m"].card.aliases == ["fast"]
        gateway.say(ProfilesCommand(2, "another", "", document))
        refused = (await gateway.reply(2)).error
        assert refused is not None
        assert refused.code == "conflict"


async def test_an_order_outlives_the_connection_that_brought_it(bench) -> None:
    async with bench("slow-m") as neuron:
        async with connection(neuron) as gateway:
            gateway.say(LoadCommand(1, LoadOrder("slow-m")))
            await until(lambda: neuron.registry.models["slow-m"].loading)
        await until(lambda: neuron.state("slow-m") == "ready")


async def test_a_draining_neuron_takes_no_loads(bench, tmp_path: Path) -> None:
    async with bench("m") as neuron, connection(neuron) as gateway:
        running = neuron.request("m", f"wait:{tmp_path / 'later'}")
        gateway.say(Submit(running))
        await gateway.until(running.id, Started)
        neuron.neuron.lifecycle.begin_drain()
        gateway.say(LoadCommand(1, LoadOrder("m")))
        refused = (await gateway.reply(1)).error
        assert refused is not None
        assert refused.code == "draining"
        (tmp_path / "later").touch()
        await gateway.ended.wait()
