"""Draining: nothing new, everything old, within its time."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import httpx
import pytest

from cortex.config.settings import Config
from cortex.errors import ConfigError, Draining
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.http.app import build_app
from cortex.serving.http.server import run_server
from tests.serving.conftest import Serve, until
from tests.serving.fake_backend import FakeBackend, Pause, plain

CHAT: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


async def test_a_draining_lifecycle_refuses_and_says_when_to_come_back() -> None:
    lifecycle = Lifecycle(drain_s=7.2)
    lifecycle.begin_drain()
    with pytest.raises(Draining) as refused:
        lifecycle.refuse_when_draining()
    assert refused.value.retry_after == 8


async def test_idle_means_that_every_running_request_has_left() -> None:
    lifecycle = Lifecycle()
    with lifecycle.running(lambda: None):
        assert lifecycle.in_flight == 1
        assert not await lifecycle.wait_until_idle(0.01)
    assert await lifecycle.wait_until_idle(0.01)


async def test_the_drain_is_told_to_endless_streams() -> None:
    lifecycle = Lifecycle()
    waiting = asyncio.create_task(lifecycle.wait_for_drain())
    await asyncio.sleep(0)
    assert not waiting.done()
    lifecycle.begin_drain()
    await asyncio.wait_for(waiting, 60)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"])
async def test_new_requests_get_503_with_retry_after_while_draining(serve: Serve, path: str) -> None:
    async with serve() as running:
        assert (await running.http.get("/health")).json() == {"status": "ok"}
        running.lifecycle.begin_drain()
        reply = await running.http.post(path, json=CHAT)
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) == 5
        health = await running.http.get("/health")
        assert (health.status_code, health.json()) == (503, {"status": "draining"})
        assert (await running.http.get("/v1/models")).status_code == 200
    assert running.backend.requests == []


async def test_health_follows_the_backend(serve: Serve) -> None:
    async with serve(FakeBackend(is_ready=False)) as running:
        assert (await running.http.get("/health")).status_code == 503


async def test_a_running_request_finishes_while_draining(serve: Serve) -> None:
    pause = Pause()
    async with serve(FakeBackend(lambda _: [*plain("a")[:2], pause, *plain("b")[1:]])) as running:
        answer = asyncio.create_task(running.http.post("/v1/chat/completions", json=CHAT))
        await pause.reached.wait()
        running.lifecycle.begin_drain()
        pause.set()
        assert (await answer).json()["choices"][0]["message"]["content"] == "ab"


@pytest.mark.parametrize("stream", [True, False])
async def test_what_outlives_the_drain_is_ended_with_an_error(serve: Serve, stream: bool) -> None:
    pause = Pause()
    async with serve(FakeBackend(lambda _: [*plain("a")[:2], pause])) as running:
        answer = asyncio.create_task(running.http.post("/v1/chat/completions", json=CHAT | {"stream": stream}))
        await pause.reached.wait()
        running.lifecycle.begin_drain()
        running.lifecycle.abort_running()
        reply = await answer
        assert '"code":"draining"' in reply.text
        assert reply.status_code == (200 if stream else 503)
    assert running.backend.cancelled


class Run:
    """`run_server` on a free port, with the URL taken from its log line."""

    def __init__(self, backend: FakeBackend, drain_s: float, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        self.lifecycle = Lifecycle(drain_s)
        apps = [build_app(backend, Config(), self.lifecycle, role="neuron") for _ in range(2)]
        extra = [(apps[1], "127.0.0.1:0")]
        self.task = asyncio.create_task(run_server(apps[0], "127.0.0.1:0", self.lifecycle, extra=extra, role="neuron"))
        self._caplog = caplog

    async def url(self) -> str:
        await until(self._lines)
        return str(self._lines()[0].url)

    def _lines(self) -> list[Any]:
        return [record for record in self._caplog.records if record.message == "listening"]


async def test_the_first_signal_drains_and_the_server_ends(caplog: pytest.LogCaptureFixture) -> None:
    pause = Pause()
    run = Run(FakeBackend(lambda _: [*plain("a")[:2], pause, *plain("b")[1:]]), 120, caplog)
    async with httpx.AsyncClient(base_url=await run.url(), timeout=60) as http:
        answer = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
        await pause.reached.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: run.lifecycle.draining)
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 503
        assert not run.task.done()
        pause.set()
        assert (await answer).status_code == 200
        await asyncio.wait_for(run.task, 60)


async def test_a_second_signal_does_not_wait(caplog: pytest.LogCaptureFixture) -> None:
    pause = Pause()
    run = Run(FakeBackend(lambda _: [*plain("a")[:2], pause]), 1000, caplog)
    async with httpx.AsyncClient(base_url=await run.url(), timeout=60) as http:
        answer = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
        await pause.reached.wait()
        os.kill(os.getpid(), signal.SIGINT)
        await until(lambda: run.lifecycle.draining)
        os.kill(os.getpid(), signal.SIGINT)
        assert (await answer).status_code == 503
        await asyncio.wait_for(run.task, 60)


async def test_the_drain_has_an_end(caplog: pytest.LogCaptureFixture) -> None:
    pause = Pause()
    run = Run(FakeBackend(lambda _: [*plain("a")[:2], pause]), 0.2, caplog)
    async with httpx.AsyncClient(base_url=await run.url(), timeout=60) as http:
        answer = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
        await pause.reached.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await answer).json()["error"]["code"] == "draining"
        await asyncio.wait_for(run.task, 60)


@pytest.mark.parametrize("listen", ["203.0.113.1:80", "127.0.0.1:{taken}"])
async def test_an_address_that_cannot_be_had_is_a_config_error(serve: Serve, listen: str) -> None:
    async with serve() as running:
        app = build_app(running.backend, Config(), running.lifecycle, role="neuron")
        with pytest.raises(ConfigError, match="cannot listen on"):
            await run_server(app, listen.format(taken=running.port), running.lifecycle)
