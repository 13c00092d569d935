"""One model's life on this neuron, and one load of it that many may wait for. Written by `ModelManager` alone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from cortex.errors import CortexError
from cortex.neuron.catalog.scan import Entry
from cortex.neuron.workers.process import Worker
from cortex.wire.status import LoadJob, ModelCard, ModelState
from cortex.wire.worker import EngineModelStats, Loaded, ProbeReport

__all__ = ["Footprint", "Loading", "ManagedModel"]


class Loading:
    """A load from the order to its end. `moved_at` is the last sign of progress: the stall limit counts from there."""

    def __init__(self, model: str, asked_at: float, *, devices: Sequence[str] = (), evict: bool = True) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.model = model
        self.asked_at = asked_at
        self.moved_at = asked_at
        self.devices = tuple(devices)
        self.evict = evict
        self.state: ModelState = "loading"
        self.stage = "queued"
        self.progress = 0.0
        self.started_at: float | None = None
        self.error: CortexError | None = None
        self.before: Footprint | None = None
        self._changed = asyncio.Event()

    @property
    def done(self) -> bool:
        return self.state != "loading"

    def advance(self, stage: str, progress: float, now: float) -> None:
        """Note progress; watchers are woken for every percent, not for every call."""
        notable = stage != self.stage or progress - self.progress >= 0.01 or progress >= 1.0 > self.progress
        self.moved_at = now
        if notable:
            self.stage, self.progress = stage, progress
            self._announce()

    def succeed(self) -> None:
        self._end("ready", None)

    def fail(self, error: CortexError) -> None:
        self._end("failed", error)

    async def changes(self) -> AsyncIterator[None]:
        """Yields after each change, the last being the end; a watcher that is slow sees only the newest."""
        while not self.done:
            await self._changed.wait()
            yield

    async def wait(self) -> None:
        """Raises the load's error."""
        while not self.done:
            await self._changed.wait()
        if self.error is not None:
            raise self.error

    def eta_s(self, now: float) -> float | None:
        """Seconds to go if it goes on as it went; None before there is anything to go by."""
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
            self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a worker's process held on each of its devices before a load, and with which models."""

    models: frozenset[str]
    sizes: tuple[int, ...]


@dataclass(slots=True)
class ManagedModel:
    """`waiting` requests wait for a load, `running` are with the worker; both keep the model from being evicted.

    `closing`: a waiting load may have this model's memory next, so new requests queue behind that load. `deaths` counts
    the worker's deaths in a row that this model is blamed for; a request that ends well clears it. `failed_until` is
    when a remembered failure is forgotten (None = only by an explicit load). `proven_at`: the last time the engine
    is known to have decoded for it. `context` is what its load was planned with. `card` and `needs_bytes`
    (per device, by the ledger) are kept, not computed, for status requests. `too_little`: with a context of so many
    tokens, so many bytes of a device were not enough.
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
    probe: asyncio.Future[ProbeReport] | None = None
    successor: Entry | None = None
    error: CortexError | None = None
    failed_until: float | None = None
    deaths: int = 0
    failures: int = 0
    closing: bool = False
    pinned: bool | None = None
    waiting: int = 0
    running: int = 0
    last_used_at: float = 0.0
    loaded_at: float = 0.0
    too_little: dict[int, dict[str, int]] = field(default_factory=dict)
    load_seconds: float | None = None
    servable: bool = False
    tensor_split_kills: bool = False
    canary_sent_at: float | None = None
    canaries_seen: int = 0
    steps_seen: int = 0
    proven_at: float = 0.0
    saved: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def busy(self) -> bool:
        return self.waiting > 0 or self.running > 0

    @property
    def is_pinned(self) -> bool:
        return self.entry.profile.pinned if self.pinned is None else self.pinned

    def expect_probe(self) -> asyncio.Future[ProbeReport]:
        """The report that the worker will send next; askers at one time share it."""
        if self.probe is None or self.probe.done():
            self.probe = asyncio.get_running_loop().create_future()
        return self.probe

    def vacate(self) -> None:
        """The model is no longer in any worker."""
        if self.probe is not None:
            self.probe.cancel()
        self.worker, self.loaded, self.stats, self.probe = None, None, None, None
        self.bytes_by_device = {}
        self.servable, self.closing, self.canary_sent_at = False, False, None
        self.gone.set()
