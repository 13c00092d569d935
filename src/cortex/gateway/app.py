"""The gateway, put together: loop, connections, backend, routes; then served until a signal."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import uvloop
from litestar import Litestar, Response, get
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from cortex.config.profiles import Profiles
from cortex.config.settings import Config, LogConfig, NeuronConfig, NeuronEntry, check_exposure
from cortex.errors import ConfigError
from cortex.gateway.admin import Admin, admin_routes
from cortex.gateway.metrics import GatewayMetrics
from cortex.gateway.neurons.connections import NeuronConnections
from cortex.gateway.operator_state import OperatorStateFile, operator_state_path
from cortex.gateway.requests.backend import FleetBackend
from cortex.gateway.requests.effect_runner import EffectRunner
from cortex.gateway.requests.mailboxes import Mailboxes
from cortex.gateway.scheduling.catalogue import Catalogue
from cortex.gateway.scheduling.loop import Loop
from cortex.gateway.scheduling.policy import Policy
from cortex.gateway.scheduling.scheduler import Scheduler
from cortex.serving.access.keyring import Keyring
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.http.app import build_app
from cortex.serving.http.errors import handle_exception
from cortex.serving.http.server import run_server
from cortex.serving.periodic import tick
from cortex.serving.reload import Reloader, Source
from cortex.serving.telemetry.metrics import RequestMetrics
from cortex.serving.telemetry.records import log_request

__all__ = ["Gateway", "run"]

logger = logging.getLogger(__name__)

_TICK_S = 0.5
_FIRST_ROUND_S = 3.0
_STALL_SHARE = 0.75
"""A stalled stream is moved to another neuron before the serving layer gives up on it at the full limit."""


ConfigureLogs = Callable[[LogConfig], None]

_FIXED = ("gateway.listen", "gateway.metrics_listen", "gateway.state_dir", "responses")
"""Settings that a gateway reads at its start only."""
_UNUSED = (*tuple(f"neuron.{name}" for name in NeuronConfig.__struct_fields__ if name != "load_stall_s"), "faults")


def run(
    config: Config,
    profiles: Profiles,
    *,
    source: Source | None = None,
    configure_logs: ConfigureLogs = lambda _: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises ConfigError before anything is started.

    `source` reads the configuration anew for reloads; without it, it stays as it is.
    """
    check(config)
    uvloop.run(Gateway(config, profiles, source=source, configure_logs=configure_logs).serve())


def check(config: Config) -> None:
    """Raises ConfigError for listeners that would be open to others, and for neurons that can't be reached or told
    apart."""
    keys = bool(config.auth.keys or config.auth.keys_file)
    check_exposure(config.gateway.listen, keys, config.gateway.insecure, "gateway")
    if config.gateway.metrics_listen:
        check_exposure(config.gateway.metrics_listen, keys, config.gateway.insecure, "gateway")
    names: dict[str, str] = {}
    for entry in config.neurons:
        endpoint = _checked_endpoint(entry)
        if entry.name in names.values():
            raise ConfigError(f"neurons: the name {entry.name!r} occurs twice")
        if endpoint in names:
            raise ConfigError(f"neurons: {names[endpoint]!r} and {entry.name!r} are both at {entry.endpoint}")
        names[endpoint] = entry.name


def _checked_endpoint(entry: NeuronEntry) -> str:
    """Raises ConfigError for what isn't a URL to which a route could be appended."""
    try:
        url = urlsplit(entry.endpoint.rstrip("/"))
        whole = url.scheme in ("http", "https") and url.hostname and url.port != 0 and not (url.query or url.fragment)
    except ValueError:  # a port that is no number
        whole = False
    if not whole:
        raise ConfigError(f"neurons: {entry.name!r} is at {entry.endpoint!r}; write a URL such as http://beast:13131")
    if not entry.name or "/" in entry.name:
        raise ConfigError(f"neurons: {entry.name!r} is no name: it must not be empty nor hold a slash")
    return url.geturl()


class Gateway:
    """Everything the gateway owns, wired; nothing runs until `serve` (or the app's lifespan) does."""

    def __init__(
        self,
        config: Config,
        profiles: Profiles,
        *,
        source: Source | None = None,
        configure_logs: ConfigureLogs = lambda _: None,
    ) -> None:
        self.config = config
        self._configure_logs = configure_logs
        self.lifecycle = Lifecycle(config.limits.drain_s)
        self.keyring = Keyring(config.auth)
        self.metrics = GatewayMetrics()
        self.mailboxes = Mailboxes()
        operator_state = OperatorStateFile(operator_state_path(config.gateway))
        self.effect_runner = EffectRunner(
            self.mailboxes, self.metrics.observe, self.metrics.ordered, operator_state.save
        )
        self.loop = Loop(Scheduler(Policy.of(config, profiles), config.neurons), self.effect_runner.perform)
        self.connections = NeuronConnections(self.loop, lambda: self.config.gateway)
        self.effect_runner.start(self.loop, self.connections)
        before = operator_state.load()
        self.loop.post(lambda scheduler, now: scheduler.on_operator_state(before, now))
        self.metrics.attach(self.loop)
        default = config.gateway.default_model
        self.catalogue = Catalogue(lambda: self.loop.scheduler.state.fleet, profiles, default)
        self.reloader = Reloader(
            (config, profiles),
            source,
            self.apply,
            check=check,
            keys_differ=lambda config: self.keyring.differs(config.auth),
            fixed=_FIXED,
            unused=_UNUSED,
        )
        self.backend = FleetBackend(
            self.loop, self.connections, self.mailboxes, self.catalogue, self.metrics.failed_over
        )
        self.admin = Admin(
            self.loop, self.mailboxes, self.catalogue, self.lifecycle, self.reloader, uuid.uuid4().hex, time.monotonic()
        )
        self.requests = RequestMetrics(self.catalogue.knows)
        self.app = build_app(
            self.backend,
            config,
            self.lifecycle,
            role="gateway",
            routes=admin_routes(self.admin),
            lifespan=[self.running()],
            observers=[self.requests.observe, log_request],
            keyring=self.keyring,
            read_config=lambda: self.config,
        )

    async def serve(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reloader.try_reload)
        extra = [(self._metrics_app(), listen)] if (listen := self.config.gateway.metrics_listen) else []
        await run_server(self.app, self.config.gateway.listen, self.lifecycle, extra=extra, role="gateway")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Up: connect to every neuron, then tick and watch. Down: stop those, the orders, the connections."""
        self.connections.follow_fleet()
        try:
            async with asyncio.timeout(_FIRST_ROUND_S):
                await self.connections.first_round()
        except TimeoutError:
            logger.warning("not every neuron has answered yet")
        tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self.reloader.watch())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.effect_runner.aclose()
            await self.connections.aclose()

    def apply(self, config: Config, profiles: Profiles) -> None:
        """Take over a new configuration: only what differs changes, nothing that runs is touched."""
        self.keyring.reload(config.auth)
        self.config = config
        self.lifecycle.drain_s = config.limits.drain_s
        self._configure_logs(config.log)
        self.catalogue.configure(profiles, config.gateway.default_model)
        self.loop.post(lambda scheduler, now: scheduler.on_policy(Policy.of(config, profiles), now))
        self.loop.post(lambda scheduler, now: scheduler.on_neurons(config.neurons, now))
        self.connections.follow_fleet()

    async def _tick(self) -> None:
        while True:
            await tick(_TICK_S)
            try:
                self.loop.post(lambda scheduler, now: scheduler.on_tick(now))
                self.mailboxes.break_stalled(self.loop.clock(), self.config.limits.stall_s * _STALL_SHARE)
            except Exception:  # a bug; without ticks no wait would ever end, and the log would not say why
                logger.exception("tick failed")

    def exposition(self) -> bytes:
        """The body of `/metrics`."""
        return self.metrics.exposition() + self.requests.exposition()

    def _metrics_app(self) -> Litestar:
        @get("/metrics", sync_to_thread=False)
        def metrics() -> Response[bytes]:
            return Response(self.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

        async def authorise(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:  # noqa: ARG001
            self.keyring.principal_of(connection.headers)

        return Litestar(
            [metrics],
            guards=[authorise],
            exception_handlers={Exception: handle_exception},
            openapi_config=None,
            logging_config=None,
        )
