"""Runs the HTTP servers of a role: sockets, signals, startup, and the steps of shutdown."""

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
from cortex.serving.http.protocol import Connection
from cortex.serving.http.systemd import notify
from cortex.serving.periodic import tick

__all__ = ["Server", "run_server", "server_config"]

logger = logging.getLogger(__name__)

_BACKLOG = 2048
_CLOSE_S = 2
"""Seconds that open connections (of status streams, for example) may take to close once nothing is in flight."""

_KEEP_ALIVE_S = 75
"""Idle connections are kept longer than clients keep them in their pools, so that none is closed as a request is sent.
"""

_TICK_S = 1.0
"""The resolution of the Date header, and so the period at which uvicorn's default headers are renewed."""

_GARBAGE_OBJECTS = 10_000
"""New objects that start a collection of the youngest generation; Python 3.11's default is 700."""

_SIGNALS = [signal.SIGTERM, signal.SIGINT]


class Server(uvicorn.Server):
    """uvicorn's server without its signal handling, because the servers of one process share one shutdown.

    `serving` is set when it accepts connections.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Makes `serve` close the listener and the connections, and return."""
        self.should_exit = True
        self._stop.set()

    async def main_loop(self) -> None:
        """Waits for `stop`. uvicorn's own loop wakes ten times a second to poll `should_exit`, which takes most of the
        CPU time of an idle process; renewing the Date header needs one wake-up a second."""
        await self.on_tick(0)
        renewal = asyncio.create_task(self._renew_headers())
        try:
            await self._stop.wait()
        finally:
            renewal.cancel()

    async def _renew_headers(self) -> None:
        while True:
            await tick(_TICK_S)
            await self.on_tick(0)  # uvicorn renews the default headers whenever the counter is a multiple of 10

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()


class _Shutdown:
    """Turns signals into a shutdown: the first starts the drain, the second ends it."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._requested = asyncio.Event()
        self._forced = asyncio.Event()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handles SIGTERM and SIGINT inside the context. Does nothing outside the main thread: only it gets signals."""
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
        """Returns when the drain is over and the listeners may close."""
        await self._requested.wait()
        lifecycle = self._lifecycle
        idle = asyncio.create_task(lifecycle.wait_until_idle(lifecycle.drain_s))
        forced = asyncio.create_task(self._forced.wait())
        await asyncio.wait({idle, forced}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        forced.cancel()
        if lifecycle.in_flight:
            logger.warning("aborting running requests", extra={"in_flight": lifecycle.in_flight})
            lifecycle.abort_running()
            await lifecycle.wait_until_idle(_CLOSE_S)

    def _on_signal(self) -> None:
        if self._requested.is_set():
            self._forced.set()
            return
        lifecycle = self._lifecycle
        logger.info("draining", extra={"in_flight": lifecycle.in_flight, "drain_s": lifecycle.drain_s})
        notify("STOPPING=1", f"STATUS=draining {lifecycle.in_flight} requests")
        lifecycle.begin_drain()
        self._requested.set()


async def run_server(
    app: ASGIApp, listen: str, lifecycle: Lifecycle, *, extra: Sequence[tuple[ASGIApp, str]] = (), role: str = "server"
) -> None:
    """Serves `app` on `listen` ("host:port", port 0 = any free port) and the `extra` applications on theirs, until a
    signal.

    Shutdown: 1 on the first SIGTERM or SIGINT the drain begins: new requests get 503, running ones continue; 2 after
    `lifecycle.drain_s`, or on a second signal, running requests end with an error; 3 listeners and connections close; 4
    the applications' lifespans end. Run it on uvloop (`uvloop.run`). Raises ConfigError when an address can't be bound.
    """
    _tune_garbage_collector()
    shutdown = _Shutdown(lifecycle)
    sockets = [_bind(address) for address in [listen, *(address for _, address in extra)]]
    servers = [Server(server_config(each)) for each in [app, *(each for each, _ in extra)]]
    with shutdown.on_signals():
        serving = [asyncio.create_task(server.serve([sock])) for server, sock in zip(servers, sockets, strict=True)]
        drained = asyncio.create_task(shutdown.drained())
        started = asyncio.create_task(_all_serving(servers))
        try:
            await asyncio.wait({started, *serving}, return_when=asyncio.FIRST_COMPLETED)
            if started.done():
                url, *also = map(_url, sockets)
                logger.info("listening", extra={"url": url, "role": role} | ({"also": also} if also else {}))
                notify("READY=1", f"STATUS=listening on {url}")
                await asyncio.wait({drained, *serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()
            drained.cancel()
            for server in servers:
                server.stop()
            await asyncio.gather(*serving)


def _tune_garbage_collector() -> None:
    """Excludes the objects of the start from garbage collection, since they live for ever, and collects less often,
    since requests leave few cycles: 479 → 437 µs of CPU time per short request (docs/explanation/performance-diary.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS, 20, 20)


async def _all_serving(servers: Sequence[Server]) -> None:
    for server in servers:
        await server.serving.wait()


def server_config(app: ASGIApp) -> uvicorn.Config:
    """How cortex configures uvicorn. Its access log is off: a line costs more CPU time than relaying an event."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # the client's address is not used
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSE_S,
    )


def _bind(listen: str) -> socket.socket:
    host, port = split_listen(listen)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        # create_server appends the address to the message
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise ConfigError(f"cannot listen on {listen}: {reason}") from error
    sock.setblocking(False)
    return sock


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
