"""The real application over a fake backend, on a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from cortex.config.settings import Config
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.http.app import build_app
from cortex.serving.http.server import Server, server_config
from cortex.serving.telemetry.records import RequestRecord
from tests.serving.fake_backend import FakeBackend


@dataclass
class Running:
    """A server under test; `records` is what its observer was told."""

    url: str
    port: int
    backend: FakeBackend
    lifecycle: Lifecycle
    records: list[RequestRecord]
    http: httpx.AsyncClient


async def until(fact: Callable[[], object], within_s: float = 60) -> None:
    """Waits until `fact()` holds; fails loudly when it doesn't in time."""
    async with asyncio.timeout(within_s):
        while not fact():  # noqa: ASYNC110 - the facts of a server under test have no events
            await asyncio.sleep(0.002)


Serve = Callable[..., AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def _serve(backend: FakeBackend | None = None, config: Config | None = None) -> AsyncIterator[Running]:
    backend = backend or FakeBackend()
    lifecycle = Lifecycle(drain_s=5)
    records: list[RequestRecord] = []
    app = build_app(backend, config or Config(), lifecycle, role="neuron", observers=[records.append])
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    server = Server(server_config(app))
    task = asyncio.create_task(server.serve([sock]))
    try:
        async with asyncio.timeout(60):
            await server.serving.wait()
        # verify: reading the system's certificates takes longer than most tests, and nothing here speaks TLS
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, verify=False) as http:
            yield Running(f"http://127.0.0.1:{port}", port, backend, lifecycle, records, http)
    finally:
        server.stop()
        await task


@pytest.fixture
def serve() -> Serve:
    """`async with serve(backend, config) as running:`"""
    return _serve
