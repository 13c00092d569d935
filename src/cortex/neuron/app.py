"""The neuron daemon, put together: devices, catalogue, workers, backend, routes; then served until a signal."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import uvloop
from huggingface_hub.constants import HF_HUB_CACHE
from litestar import Litestar

from cortex.config.profiles import Profiles
from cortex.config.settings import Config, GatewayConfig, LogConfig, NeuronConfig, check_exposure, parse_bytes
from cortex.errors import CortexError, ModelLoadFailed
from cortex.neuron.api.admin import Admin, admin_routes
from cortex.neuron.api.metrics import NeuronMetrics
from cortex.neuron.api.rpc import RpcServer, check_rpc_listen
from cortex.neuron.backend import LocalBackend
from cortex.neuron.catalog.downloads import Downloader, OnProgress
from cortex.neuron.catalog.entry import Catalog, Entry
from cortex.neuron.catalog.pushed_profiles import ProfileSource
from cortex.neuron.catalog.scan import HeaderCache, scan
from cortex.neuron.devices.discovery import find_devices
from cortex.neuron.memory.ledger import Measurements
from cortex.neuron.models.manager import ModelManager
from cortex.neuron.models.registry import ModelRegistry
from cortex.neuron.workers.pool import WorkerPool
from cortex.neuron.workers.watchdog import Watchdog
from cortex.serving.access.keyring import Keyring
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.http.app import build_app
from cortex.serving.http.server import run_server
from cortex.serving.periodic import to_next_s
from cortex.serving.reload import Reloader, Source
from cortex.serving.telemetry.records import log_request
from cortex.wire.status import LoadOrder

__all__ = ["Neuron", "make_downloader", "run", "scan_models"]

logger = logging.getLogger(__name__)

ConfigureLogs = Callable[[LogConfig], None]

_RESCAN_S = 10.0
_LIVE = (
    "model_dirs",
    "huggingface_cache",
    "heartbeat_s",
    "canary_s",
    "load_stall_s",
    "empty_worker_s",
    "host_cache",
    "dry_run_from",
    "insecure",
)
"""Keys of [neuron] that a reload applies; the others are read at the start only."""
_FIXED = (*tuple(f"neuron.{name}" for name in NeuronConfig.__struct_fields__ if name not in _LIVE), "responses")
_UNUSED = (
    "admission",
    "neurons",
    *(f"gateway.{name}" for name in GatewayConfig.__struct_fields__ if name != "default_model"),
)


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
    uvloop.run(Neuron(config, profiles, source=source, configure_logs=configure_logs).serve())


def check(config: Config) -> None:
    """Raises ConfigError for listeners that would be open to others."""
    check_exposure(
        config.neuron.listen, bool(config.auth.keys or config.auth.keys_file), config.neuron.insecure, "neuron"
    )
    if config.neuron.rpc_listen:
        check_rpc_listen(config.neuron.rpc_listen)


def make_downloader(config: Config) -> Downloader:
    """Into huggingface_hub's own cache, from the hub it is set up for."""
    return Downloader(Path(HF_HUB_CACHE), offline=config.neuron.offline)


def scan_models(config: Config, profiles: Profiles, headers: HeaderCache | None = None) -> Catalog:
    """The models on this machine by `config`; `headers` remembers files from one scan to the next."""
    directories = [Path(name).expanduser() for name in config.neuron.model_dirs]
    hub = Path(HF_HUB_CACHE) if config.neuron.huggingface_cache else None
    return scan(directories, hub, profiles, headers or HeaderCache())


def _has_own(config: Config, profiles: Profiles) -> bool:
    """Whether this neuron has profiles that no gateway may replace: a models.toml, or `cortex up`'s demo model."""
    return config.models is not None or bool(profiles.models)


class Neuron:
    """Everything the daemon owns, wired; nothing runs until `serve` (or the app's lifespan) does."""

    def __init__(
        self,
        config: Config,
        profiles: Profiles,
        clock: Callable[[], float] = time.monotonic,
        *,
        source: Source | None = None,
        configure_logs: ConfigureLogs = lambda _: None,
    ) -> None:
        self.config = config
        self._configure_logs = configure_logs
        self._own_profiles = profiles
        self._changed = asyncio.Event()
        self.keyring = Keyring(config.auth)
        self.reloader = self._make_reloader(source)
        self.profiles = ProfileSource(profiles, own_file=_has_own(config, profiles))
        self._catalog = Catalog()
        self._scanning = asyncio.Lock()
        self.name = config.neuron.name or socket.gethostname()
        self.lifecycle = Lifecycle(config.limits.drain_s)
        self.headers = HeaderCache()
        self.downloader = make_downloader(config)
        extra_bytes = config.faults.extra_used_bytes if config.faults else 0
        self.devices = find_devices(config.neuron, self._rss_of, self._held_on, extra_bytes)
        measurements = Measurements(config.neuron.state_path / "measured.json")
        build = f"llama-cpp-python {version('llama-cpp-python')}"
        self.registry = ModelRegistry(config, self.devices, clock, measurements, build, fetch=self._fetch)
        pool = WorkerPool(self.devices.devices, config.neuron.kill_grace_s, config.neuron.threads, clock=clock)
        self.manager = ModelManager(self.registry, pool)
        self.backend = LocalBackend(self.manager, self.name, default_model=config.gateway.default_model)
        self.metrics = NeuronMetrics(self.registry)
        observers = [self.metrics.requests.observe, log_request]
        self.admin = Admin(
            self.name,
            uuid.uuid4().hex,
            clock(),
            self.manager,
            self.backend,
            self.lifecycle,
            observers,
            self.profiles,
            self.rescan,
        )
        self.app: Litestar = build_app(
            self.backend,
            config,
            self.lifecycle,
            role="neuron",
            routes=admin_routes(self.admin, self.metrics),
            lifespan=[self.running()],
            observers=observers,
            keyring=self.keyring,
            read_config=lambda: self.config,
        )

    def _make_reloader(self, source: Source | None) -> Reloader:
        return Reloader(
            (self.config, self._own_profiles),
            source,
            self.apply,
            check=check,
            keys_differ=lambda config: self.keyring.differs(config.auth),
            fixed=_FIXED,
            unused=_UNUSED,
        )

    def apply(self, config: Config, profiles: Profiles) -> None:
        """Take over a new configuration. What is loaded stays as it is until it is unloaded."""
        self.keyring.reload(config.auth)
        if profiles != self._own_profiles or config.models != self.config.models:
            self._own_profiles = profiles
            self.profiles.reload(profiles, own_file=_has_own(config, profiles))
        self.config = config
        self.lifecycle.drain_s = config.limits.drain_s
        self.registry.configure(config)
        self.backend.configure(config.gateway.default_model)
        self._configure_logs(config.log)
        self._changed.set()

    def _rss_of(self, device: str) -> int:
        return self.registry.pool.rss_of(device)

    def _held_on(self, device: str) -> int:
        return self.registry.ledger.held(device)

    async def serve(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reloader.try_reload)
        await run_server(self.app, self.config.neuron.listen, self.lifecycle, role="neuron")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """1 read the catalogue; 2 start the watchers; 3 load the default models, not waiting for them.
        At the end: the watchers stop, then every worker exits."""
        self._warn_of_missing_directories()
        await self.rescan()  # 1
        limit = parse_bytes(self.config.neuron.worker_memory) if self.config.neuron.worker_memory else None
        watchers = [  # 2
            asyncio.create_task(Watchdog(self.manager, memory_limit_bytes=limit).run(), name="watchdog"),
            asyncio.create_task(self._look_for_changes(), name="rescan"),
            asyncio.create_task(self.reloader.watch(), name="reload"),
        ]
        if listen := self.config.neuron.rpc_listen:
            watchers.append(asyncio.create_task(RpcServer(listen, self.config.neuron.threads).run(), name="rpc"))
        for model in self.config.neuron.default_models:  # 3
            self._load_default(model)
        try:
            yield
        finally:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            await self.manager.close()

    def scan(self) -> Catalog:
        """Read what is on disk; slow for many files, so never on the loop."""
        return self.registry.planner.checked(scan_models(self.config, self.profiles.current, self.headers))

    async def rescan(self) -> None:
        """Scan again and apply the result. One scan at a time: one that began before new profiles came must not be
        applied after one that knows them."""
        async with self._scanning:
            catalog = await asyncio.to_thread(self.scan)
            if catalog != self._catalog:
                self._report(catalog)
            self._catalog = catalog
            self.manager.apply_catalog(catalog)

    def _report(self, catalog: Catalog) -> None:
        """Log what a scan has found, and each problem and warning once; the warnings go into the status too."""
        broken = {name: entry.problem for name, entry in catalog.entries.items() if entry.problem}
        logger.info("catalogue read", extra={"models": len(catalog.entries), "unusable": len(broken)})
        for name, problem in broken.items():
            before = self._catalog.entries.get(name)
            if before is None or before.problem != problem:
                logger.warning("model not usable", extra={"model": name, "problem": problem})
        warnings = [*catalog.warnings, *self._unknown_defaults(catalog)]
        for warning in warnings:
            if warning not in self.registry.warnings:
                logger.warning("models not as configured", extra={"reason": warning})
        self.registry.warnings = warnings

    def _unknown_defaults(self, catalog: Catalog) -> Iterator[str]:
        """A sentence for each default model that isn't in the catalogue."""
        named = [("neuron.default_models", name) for name in self.config.neuron.default_models]
        if self.config.gateway.default_model:
            named.append(("gateway.default_model", self.config.gateway.default_model))
        for key, name in named:
            if catalog.resolve(name) is None:
                yield f"{key}: {self.name} has no model {name!r}"

    def _warn_of_missing_directories(self) -> None:
        """Log model directories that don't exist: a typo would only show as missing models."""
        for name in self.config.neuron.model_dirs:
            if not Path(name).expanduser().is_dir():
                logger.warning("no such model directory", extra={"directory": name})

    async def _fetch(self, entry: Entry, on_progress: OnProgress) -> Entry:
        """Raises the download's CortexError, and ModelLoadFailed when what came can't be found again."""
        await asyncio.to_thread(self.downloader.fetch, entry.profile, on_progress)
        found = (await asyncio.to_thread(self.scan)).entries.get(entry.id)
        if found is None or found.header is None:
            raise ModelLoadFailed(f"{entry.id} was downloaded but is no usable model: {found.problem if found else ''}")
        return found

    async def _look_for_changes(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(to_next_s(_RESCAN_S, asyncio.get_running_loop().time())):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self.rescan()
            except Exception:  # whatever it is: the next scan may succeed, and nothing else would start one
                logger.exception("model directories are unreadable")

    def _load_default(self, name: str) -> None:
        """A default model that can't be loaded is logged; the others are served all the same."""
        try:
            self.manager.order_load(LoadOrder(self.backend.resolve(name)))
        except CortexError as error:
            logger.error("default model not loaded", extra={"model": name, "reason": error.message})  # noqa: TRY400
