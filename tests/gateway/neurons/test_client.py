"""HttpNeurons against the in-memory neuron behind a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from cortex.errors import Conflict, Unauthorized
from cortex.gateway.neurons.client import HttpNeurons, Lost
from cortex.gateway.neurons.fleet import Neuron
from cortex.wire.events import Event, Finished, Started
from cortex.wire.status import LoadOrder, UnloadOrder
from tests.fakes import FakeNeuron, FakeNeuronServer, chat
from tests.gateway.scheduling.world import models


@asynccontextmanager
async def connected(server: FakeNeuronServer, token: str | None = None) -> AsyncIterator[tuple[HttpNeurons, Neuron]]:
    async with server.running() as endpoint:
        client = HttpNeurons(connect_s=60.0, answer_s=60.0)
        client.open()
        try:
            yield client, Neuron("n", endpoint, token)
        finally:
            await client.aclose()


def ready() -> FakeNeuron:
    neuron = FakeNeuron("n", models("a", "b"))
    neuron.models["a"].state, neuron.models["a"].devices = "ready", ["cpu0"]
    return neuron


async def everything(client: HttpNeurons, neuron: Neuron, request_id: str = "r") -> list[Event]:
    stream = await client.infer(neuron, chat(job_id=request_id))
    events: list[Event] = []
    try:
        while not events or not isinstance(events[-1], Finished):
            events += await stream.read()
    finally:
        stream.close()
    return events


async def test_a_status_document_comes_back_as_it_was_sent() -> None:
    fake = ready()
    async with connected(FakeNeuronServer(fake)) as (client, neuron):
        assert await client.status(neuron) == fake.status()


async def test_orders_are_carried_out_and_refusals_keep_their_kind() -> None:
    fake = ready()
    async with connected(FakeNeuronServer(fake)) as (client, neuron):
        await client.unload(neuron, UnloadOrder("a"))
        assert (await client.load(neuron, LoadOrder("b", revision=fake.revision))).state == "ready"
        with pytest.raises(Conflict, match="revision"):
            await client.load(neuron, LoadOrder("a", revision=fake.revision - 1))


async def test_events_arrive_in_order_and_complete() -> None:
    async with connected(FakeNeuronServer(ready())) as (client, neuron):
        events = await everything(client, neuron)
        assert isinstance(events[0], Started)
        assert len(events) == 8


async def test_all_requests_to_a_neuron_share_one_trunk() -> None:
    server = FakeNeuronServer(ready())
    async with connected(server) as (client, neuron):
        await asyncio.gather(*(everything(client, neuron, f"r{number}") for number in range(8)))
        await everything(client, neuron, "later")
    assert server.connections == 1


async def test_closing_a_stream_early_cancels_the_request_at_the_neuron() -> None:
    """The second hop (litellm#37140)."""
    fake = ready()
    fake.gate = asyncio.Event()
    server = FakeNeuronServer(fake)
    async with connected(server) as (client, neuron):
        stream = await client.infer(neuron, chat())
        await stream.read()
        assert fake.models["a"].running == 1
        stream.close()
        async with asyncio.timeout(60):
            while fake.models["a"].running:  # noqa: ASYNC110 - a double has no events
                await asyncio.sleep(0.005)
        assert server.cancelled == 1


async def test_a_connection_cut_in_mid_stream_is_a_loss() -> None:
    fake = ready()
    fake.die_after = 3
    async with connected(FakeNeuronServer(fake)) as (client, neuron):
        with pytest.raises(Lost) as caught:
            await everything(client, neuron)
        assert caught.value.unreachable.refused


async def test_nobody_listening_is_told_from_slowness() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    client = HttpNeurons(60.0, 60.0)
    client.open()
    with pytest.raises(Lost) as caught:
        await client.status(Neuron("n", f"http://127.0.0.1:{port}"))
    assert caught.value.unreachable.refused
    await client.aclose()


async def test_a_neuron_that_accepts_and_says_nothing_is_slow_not_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = HttpNeurons(60.0, 0.2)
        client.open()
        with pytest.raises(Lost) as caught:
            await client.status(Neuron("n", f"http://127.0.0.1:{silent.getsockname()[1]}"))
        assert not caught.value.unreachable.refused
        await client.aclose()


async def test_the_token_is_presented() -> None:
    server = FakeNeuronServer(ready(), token="secret")
    async with connected(server, token="secret") as (client, neuron):
        await client.status(neuron)
    async with connected(server, token=None) as (client, neuron):
        with pytest.raises(Unauthorized):
            await client.status(neuron)
        with pytest.raises(Unauthorized):
            await client.infer(neuron, chat())


async def test_something_that_is_no_neuron_is_a_loss_with_a_reason() -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="<html>")

    app = web.Application()
    app.add_routes([web.get("/status", hello)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = HttpNeurons(60.0, 60.0)
    client.open()
    with pytest.raises(Lost, match="can't be read"):
        await client.status(Neuron("n", f"http://127.0.0.1:{runner.addresses[0][1]}"))
    await client.aclose()
    await runner.cleanup()
