"""Running an application: sockets, signals, and the order of shutting down."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from litestar.types import ASGIApp

from cortex.config.settings import split_listen
from cortex.errors import ConfigError
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.http.periodic import tick
from cortex.serving.http.protocol import Connection
from cortex.serving.http.systemd import notify

__all__ = ["Server", "run_server", "server_config"]

logger = logging.getLogger(__name__)

_BACKLOG = 2048
_CLOSE_S = 2
"""Seconds that open connections (event feeds, say) may take to close once nothing is in flight."""

_KEEP_ALIVE_S = 75
"""Idle connections are kept longer than clients' pools keep them, so that none is closed under a request."""

_TICK_S = 1.0
_GARBAGE_OBJECTS = 10_000

_SIGNALS = [signal.SIGTERM, signal.SIGINT]


class Server(uvicorn.Server):
    """Leaves the signals alone, since several servers of one process share one shutdown, and tells when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._leave = asyncio.Event()

    def leave(self) -> None:
        """Close the listener and the connections, and return from `serve`."""
        self.should_exit = True
        self._leave.set()

    async def main_loop(self) -> None:
        """uvicorn wakes ten times a second to look at `should_exit`, which costs an idle daemon most of its CPU. Once
        is enough for the date in the headers, which tick 0 renews."""
        await self.on_tick(0)
        dating = asyncio.create_task(self._keep_dating())
        try:
            await self._leave.wait()
        finally:
            dating.cancel()

    async def _keep_dating(self) -> None:
        while True:
            await tick(_TICK_S)
            await self.on_tick(0)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class _Shutdown:
    """Turns signals into a drain: the first asks, the second forces."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._asked = asyncio.Event()
        self._forced = asyncio.Event()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handles SIGTERM and SIGINT meanwhile; outside the main thread there are no signals to handle."""
        loop = asyncio.get_running_loop()
        signals = _SIGNALS if threading.current_thread() is threading.main_thread() else []
        for number in signals:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def drained(self) -> None:
        """Returns when the listeners may close."""
        await self._asked.wait()
        lifecycle = self._lifecycle
        idle = asyncio.create_task(lifecycle.wait_until_idle(lifecycle.drain_s))
        forced = asyncio.create_task(self._forced.wait())
        await asyncio.wait({idle, forced}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        forced.cancel()
        if lifecycle.in_flight:
            logger.warning("ending requests that still run", extra={"in_flight": lifecycle.in_flight})
            lifecycle.abort_running()
            await lifecycle.wait_until_idle(_CLOSE_S)

    def _on_signal(self) -> None:
        if self._asked.is_set():
            self._forced.set()
            return
        lifecycle = self._lifecycle
        logger.info("draining", extra={"in_flight": lifecycle.in_flight, "drain_s": lifecycle.drain_s})
        notify("STOPPING=1", f"STATUS=draining {lifecycle.in_flight} requests")
        lifecycle.begin_drain()
        self._asked.set()


async def run_server(
    app: ASGIApp, listen: str, lifecycle: Lifecycle, *, extra: Sequence[tuple[ASGIApp, str]] = (), role: str = "server"
) -> None:
    """Serves `app` on `listen` ("host:port", port 0 = any free one) and `extra` ones beside it, until a signal ends it.

    1 first SIGTERM or SIGINT: drain, i.e. new requests get 503 while the running ones go on; 2 after `drain_s`, or on
    a second signal: what still runs is ended with an error; 3 listeners and connections close; 4 the applications'
    lifespans end. Run it on uvloop (`uvloop.run`). Raises ConfigError when an address can't be had.
    """
    _calm_collector()
    shutdown = _Shutdown(lifecycle)
    sockets = [_bind(address) for address in [listen, *(address for _, address in extra)]]
    servers = [Server(server_config(each)) for each in [app, *(each for each, _ in extra)]]
    with shutdown.on_signals():
        serving = [asyncio.create_task(server.serve([sock])) for server, sock in zip(servers, sockets, strict=True)]
        drained = asyncio.create_task(shutdown.drained())
        up = asyncio.create_task(_all_up(servers))
        try:
            await asyncio.wait({up, *serving}, return_when=asyncio.FIRST_COMPLETED)
            if up.done():
                url, *also = map(_url, sockets)
                logger.info("listening", extra={"url": url, "role": role} | ({"also": also} if also else {}))
                notify("READY=1", f"STATUS=listening on {url}")
                await asyncio.wait({drained, *serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            drained.cancel()
            for server in servers:
                server.leave()
            await asyncio.gather(*serving)


def _calm_collector() -> None:
    """What is there at the start stays and needn't be looked through; requests leave few cycles. A tenth of the CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS, 20, 20)


async def _all_up(servers: Sequence[Server]) -> None:
    for server in servers:
        await server.up.wait()


def server_config(app: ASGIApp) -> uvicorn.Config:
    """The one way cortex runs uvicorn: its access log alone would cost more than relaying an event."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # nothing here asks where a request came from
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSE_S,
    )


def _bind(listen: str) -> socket.socket:
    host, port = split_listen(listen)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        # create_server adds the address once more
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise ConfigError(f"cannot listen on {listen}: {reason}") from error
    sock.setblocking(False)
    return sock


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
