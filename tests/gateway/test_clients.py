"""Clients over real sockets in front of a gateway that has no place for them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from cortex.config.profiles import Profile, Profiles
from tests.fake_neuron import FakeNeuron
from tests.gateway.scheduling.world import models
from tests.gateway.test_app import Running, running, until

NARROW = Profiles(models=[Profile(id="a", in_flight=1, queue=1)])


def held() -> FakeNeuron:
    """A neuron whose answers stop after the first frame."""
    neuron = FakeNeuron("n", models("a"))
    neuron.gate = asyncio.Event()
    return neuron


def counts(it: Running) -> tuple[int, int]:
    """(running, waiting) of the only model."""
    line = it.gateway.loop.scheduler.state.queues.get("a")
    return (line.in_flight, line.requests_waiting) if line else (0, 0)


async def test_a_full_queue_refuses_at_once_and_says_in_whole_seconds_when_to_come_back() -> None:
    async with running(held(), profiles=NARROW) as it:
        asking = [asyncio.create_task(it.chat())]
        await until(lambda: counts(it) == (1, 0))
        asking.append(asyncio.create_task(it.chat()))
        await until(lambda: counts(it) == (1, 1))
        async with asyncio.timeout(20):  # less than the queue's limit
            refused = await it.chat()
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        for task in asking:
            task.cancel()
        await until(lambda: counts(it) == (0, 0))


async def test_a_waiter_that_leaves_gives_its_place_to_the_next() -> None:
    neuron = held()
    async with running(neuron, profiles=NARROW) as it:
        first = asyncio.create_task(it.chat())
        await until(lambda: counts(it) == (1, 0))
        leaver = asyncio.create_task(it.chat())
        await until(lambda: counts(it) == (1, 1))
        leaver.cancel()
        await until(lambda: counts(it) == (1, 0))
        second = asyncio.create_task(it.chat())
        await until(lambda: counts(it) == (1, 1))
        assert neuron.gate is not None
        neuron.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(first, second)] == [200, 200]


async def test_a_client_that_closes_its_sending_side_gives_up_its_place_in_the_queue() -> None:
    """And one that runs is cancelled at its neuron: nobody can tell it from a client that is gone."""
    neuron = held()
    async with running(neuron, profiles=NARROW) as it:
        runner = await _half_open(it)
        await until(lambda: counts(it) == (1, 0))
        waiter = await _half_open(it)
        await until(lambda: counts(it) == (1, 1))
        waiter.write_eof()
        await until(lambda: counts(it) == (1, 0))
        runner.write_eof()
        await until(lambda: counts(it) == (0, 0))
        await until(lambda: neuron.models["a"].running == 0)
        for writer in (runner, waiter):
            writer.close()


async def test_fifty_event_feeds_leave_no_descriptors_behind() -> None:
    async with running(FakeNeuron("n", models("a"))) as it:
        await it.fleet()
        before = _descriptors()
        for _ in range(50):
            async with (
                httpx.AsyncClient(base_url=it.http.base_url, timeout=60) as http,
                http.stream("GET", "/fleet/events") as feed,
            ):
                assert await anext(feed.aiter_lines()) == "event: snapshot"
        # the gateway may have opened lines of its own to the neuron meanwhile; a leak would be fifty and more
        await until(lambda: _descriptors() < before + 25)


async def _half_open(it: Running) -> asyncio.StreamWriter:
    """A streamed chat whose answer nobody reads."""
    body = httpx.Request(
        "POST", "http://x", json={"model": "a", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    ).read()
    _, writer = await asyncio.open_connection(it.http.base_url.host, it.http.base_url.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    return writer


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
