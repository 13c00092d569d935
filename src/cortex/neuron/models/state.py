"""The state of one model on this neuron, and of one load of it. Written by `ModelManager` and its helpers alone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from cortex.errors import CortexError
from cortex.neuron.catalog.entry import Entry
from cortex.neuron.workers.process import Worker
from cortex.wire.status import LoadJob, ModelCard, ModelState
from cortex.wire.worker import EngineModelStats, Loaded, ProbeReport

__all__ = ["Footprint", "Loading", "ManagedModel"]


class Loading:
    """A load from the order to its end, which any number of tasks may wait for.

    `asked_at`, `started_at` and `progress_at` (the last progress, from which the stall limit counts) are in seconds of
    the registry's clock; `progress` is from 0 to 1 within `stage`. `devices` are ids that the order names, `evict`
    allows other models to be unloaded for it. `footprint` is the worker's before the load.
    """

    def __init__(self, model: str, asked_at: float, *, devices: Sequence[str] = (), evict: bool = True) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.model = model
        self.asked_at = asked_at
        self.progress_at = asked_at
        self.devices = tuple(devices)
        self.evict = evict
        self.state: ModelState = "loading"
        self.stage = "queued"
        self.progress = 0.0
        self.started_at: float | None = None
        self.error: CortexError | None = None
        self.footprint: Footprint | None = None
        self._changed = asyncio.Event()

    @property
    def done(self) -> bool:
        return self.state != "loading"

    def advance(self, stage: str, progress: float, now: float) -> None:
        """Record progress; waiters are notified for every percent, not for every call."""
        changed = stage != self.stage or progress - self.progress >= 0.01 or progress >= 1.0 > self.progress
        self.progress_at = now
        if changed:
            self.stage, self.progress = stage, progress
            self._notify()

    def succeed(self) -> None:
        self._end("ready", None)

    def fail(self, error: CortexError) -> None:
        self._end("failed", error)

    async def changes(self) -> AsyncIterator[None]:
        """Yields after each change, the end being the last; changes that come meanwhile are merged."""
        while not self.done:
            await self._changed.wait()
            yield

    async def wait(self) -> None:
        """Wait for the end. Raises the load's error."""
        while not self.done:
            await self._changed.wait()
        if self.error is not None:
            raise self.error

    def eta_s(self, now: float) -> float | None:
        """Seconds left at the present rate; None below 2 % of the stage, where there is no rate yet."""
        if self.started_at is None or self.progress < 0.02:
            return None
        return (now - self.started_at) * (1 - self.progress) / self.progress

    def job(self, now: float, devices: Sequence[str]) -> LoadJob:
        return LoadJob(
            id=self.id,
            model=self.model,
            state=self.state,
            progress=1.0 if self.state == "ready" else self.progress,
            stage=self.stage,
            eta_s=self.eta_s(now),
            devices=list(devices),
            error=self.error.message if self.error else "",
            code=self.error.code if self.error else "",
        )

    def _end(self, state: ModelState, error: CortexError | None) -> None:
        if not self.done:
            self.state, self.error = state, error
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a worker's process holds on each of its devices by the driver, and the models in it."""

    models: frozenset[str]
    sizes: tuple[int, ...]


@dataclass(slots=True)
class ManagedModel:
    """A model of the catalogue, loaded or not. Times are in seconds of the registry's clock.

    Requests: `waiting` for a load and `running` in the worker, which both keep it from being evicted. `closed`: a
    waiting load may have this model's memory next, so new requests queue behind that load.

    Failures: `deaths` counts the worker's deaths in a row that this model is blamed for, until a request succeeds;
    `failures` failed loads in a row. `error` is returned without a new try until `failed_until` (None = until an
    explicit load). `min_bytes` (by context and device): less has been shown to be too little. `tensor_split_crashed`:
    its worker died while loading it so.

    The load: `context` is what it was planned with, `loaded` what the worker reported, `next_entry` a changed entry
    that comes into force when the model is unloaded. `last_decode_at`: when the engine is last known to have decoded
    for it, by its canaries or steps; `servable`: it has, and no canary is overdue. `card` and `needs_bytes` (on one
    device) are kept for status requests rather than computed.

    Events: `saved` is set when the worker has written its prefixes, `unloaded` when it is in no worker any more; `idle`
    is replaced by a new event whenever it is set, when the last running request ends.
    """

    entry: Entry
    card: ModelCard
    needs_bytes: int = 0
    state: ModelState = "unloaded"
    bytes_by_device: Mapping[str, int] = field(default_factory=dict)
    context: int = 0
    worker: Worker | None = None
    loading: Loading | None = None
    loaded: Loaded | None = None
    stats: EngineModelStats | None = None
    probe_report: asyncio.Future[ProbeReport] | None = None
    next_entry: Entry | None = None
    error: CortexError | None = None
    failed_until: float | None = None
    deaths: int = 0
    failures: int = 0
    closed: bool = False
    waiting: int = 0
    running: int = 0
    last_used_at: float = 0.0
    loaded_at: float = 0.0
    min_bytes: dict[int, dict[str, int]] = field(default_factory=dict)
    load_seconds: float | None = None
    servable: bool = False
    tensor_split_crashed: bool = False
    canary_sent_at: float | None = None
    canaries_seen: int = 0
    steps_seen: int = 0
    last_decode_at: float = 0.0
    saved: asyncio.Event = field(default_factory=asyncio.Event)
    unloaded: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def busy(self) -> bool:
        return self.waiting > 0 or self.running > 0

    @property
    def pinned(self) -> bool:
        return self.entry.profile.pinned

    def next_probe_report(self) -> asyncio.Future[ProbeReport]:
        """The next chat probe report from the worker; callers share one future until it is set. Cancelled by an
        unload."""
        if self.probe_report is None or self.probe_report.done():
            self.probe_report = asyncio.get_running_loop().create_future()
        return self.probe_report

    def clear_worker(self) -> None:
        """Reset everything that holds for a loaded model: it is in no worker any more."""
        if self.probe_report is not None:
            self.probe_report.cancel()
        self.worker, self.loaded, self.stats, self.probe_report = None, None, None, None
        self.bytes_by_device = {}
        self.servable, self.closed, self.canary_sent_at = False, False, None
        self.unloaded.set()
