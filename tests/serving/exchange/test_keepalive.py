"""Waiting clients hear something, in their own dialect, by the wall clock."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from cortex.config.settings import Config, LimitsConfig
from cortex.wire.events import Started, TextDelta
from tests.serving.conftest import Serve
from tests.serving.fake_backend import FakeBackend, Pause, plain

FAST = Config(limits=LimitsConfig(first_event_s=0.05, keepalive_s=0.03))
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    "/v1/responses": {"input": "hi"},
}
SIGNS = {
    "/v1/chat/completions": ": ping\n\n",
    "/v1/completions": ": ping\n\n",
    "/v1/messages": "event: ping\n",
    "/v1/responses": "event: response.in_progress\n",
}


async def read_until(reply: httpx.Response, wanted: str, times: int = 1) -> str:
    seen = ""
    async with asyncio.timeout(60):
        async for text in reply.aiter_text():
            seen += text
            if seen.count(wanted) >= times:
                return seen
    raise AssertionError(f"the stream ended without {wanted!r}: {seen}")


@pytest.mark.parametrize("path", SIGNS)
async def test_a_long_prefill_is_bridged_in_each_dialects_own_way(serve: Serve, path: str) -> None:
    pause = Pause()
    backend = FakeBackend(lambda _: [[Started(5)], pause, *plain("done")[1:]])
    async with (
        serve(backend, FAST) as running,
        running.http.stream("POST", path, json={"model": "demo", "stream": True} | BODIES[path]) as reply,
    ):
        await read_until(reply, SIGNS[path], times=3)


@pytest.mark.parametrize("path", SIGNS)
async def test_headers_are_sent_when_the_first_event_is_late(serve: Serve, path: str) -> None:
    """While a model loads, the client gets its 200 and a byte to wait on."""
    pause = Pause()
    backend = FakeBackend(lambda _: [pause, *plain("done")])
    body = {"model": "demo", "stream": True} | BODIES[path]
    async with serve(backend, FAST) as running, running.http.stream("POST", path, json=body) as reply:
        assert reply.status_code == 200
        assert reply.headers["x-accel-buffering"] == "no"
        pause.set()
        await read_until(reply, "done")


async def test_a_client_may_ask_for_no_keepalives(serve: Serve) -> None:
    pause = Pause()
    backend = FakeBackend(lambda _: [[Started(5)], pause, *plain("done")[1:]])
    body = {"model": "demo", "stream": True, "sse_ping_interval": -1} | BODIES["/v1/chat/completions"]
    async with (
        serve(backend, FAST) as running,
        running.http.stream("POST", "/v1/chat/completions", json=body) as reply,
    ):
        await pause.reached.wait()
        await asyncio.sleep(0.15)  # several intervals of the server's own
        pause.set()
        assert ": ping" not in await read_until(reply, "done")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_stops_coming_ends_with_a_timeout(serve: Serve, stream: bool) -> None:
    """A neuron that hangs between tokens doesn't hang its client."""
    backend = FakeBackend(lambda _: [[Started(5)], [TextDelta("a")], Pause()])
    config = Config(limits=LimitsConfig(stall_s=0.1))
    body = {"model": "demo", "stream": stream} | BODIES["/v1/chat/completions"]
    async with serve(backend, config) as running:
        reply = await running.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == (200 if stream else 504)
    assert '"code":"timeout"' in reply.text
    assert running.backend.cancelled
    assert running.records[0].ended == "error"


async def test_a_request_that_never_begins_ends_at_its_deadline(serve: Serve) -> None:
    backend = FakeBackend(lambda _: [Pause()])
    config = Config(limits=LimitsConfig(request_s=0.1))
    async with serve(backend, config) as running:
        reply = await running.http.post("/v1/chat/completions", json={"model": "demo"} | BODIES["/v1/chat/completions"])
    assert reply.status_code == 504
    assert running.backend.cancelled
