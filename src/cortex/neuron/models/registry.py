"""What a neuron holds: every model's resident, the ledger, the workers. State and reading it; no decisions.

Written by `manager` and its two hands, `load_queue` (who gets room next) and `loader` (loading and unloading), all on
the event loop; everyone else reads.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

from msgspec.structs import replace

from cortex.config.settings import Config, parse_bytes
from cortex.errors import ModelNotFound
from cortex.neuron.catalog.downloads import OnProgress
from cortex.neuron.catalog.scan import Entry
from cortex.neuron.devices.devices import DeviceSource
from cortex.neuron.memory.dry_run import ProbeFailed, probe_size
from cortex.neuron.memory.ledger import Ledger, Measurements, measure_key
from cortex.neuron.models.changes import Changes
from cortex.neuron.models.load_plan import card_of, contexts, device_sets, estimated_sizes, refined_sizes, spec_of
from cortex.neuron.models.state import ManagedModel
from cortex.neuron.workers.active_requests import Streams
from cortex.neuron.workers.pool import WorkerPool, ggml_names, visibility
from cortex.neuron.workers.process import Worker
from cortex.placement.facts import DeviceMemory, NeuronMemory, Resident
from cortex.wire.probes import SizeReport
from cortex.wire.status import ModelState
from cortex.wire.worker import LoadSpec

__all__ = ["Evicted", "LoadEnded", "ModelRegistry"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadEnded:
    """A load that had begun is over, `seconds` after it began; `code` names the error, "" is success."""

    model: str
    seconds: float
    code: str = ""


@dataclass(frozen=True, slots=True)
class Evicted:
    """A model had to go: for another's `room`, or because it was `idle`."""

    model: str
    reason: Literal["room", "idle"]


@dataclass
class ModelRegistry:
    """`revision` rises with every change of what is loaded. `clock` gives monotonic seconds; `tell` hears of moves;
    `build` names the installed llama.cpp, for which measured sizes hold; `fetch` brings an entry's missing file here;
    `dry_runs` are sizes by measure key, empty where a dry run gave none.
    """

    config: Config
    devices: DeviceSource
    clock: Callable[[], float]
    measurements: Measurements
    build: str
    ledger: Ledger = field(default_factory=Ledger)
    streams: Streams = field(default_factory=Streams)
    models: dict[str, ManagedModel] = field(default_factory=dict)
    revision: int = 0
    closed: bool = False
    pool: WorkerPool = field(init=False)  # set by Residency, to which its workers report
    freed_at: dict[str, float] = field(default_factory=dict)
    dry_runs: dict[str, list[int]] = field(default_factory=dict)
    probe_size: Callable[[LoadSpec, Mapping[str, str]], Awaitable[SizeReport]] = probe_size
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    fetch: Callable[[Entry, OnProgress], Awaitable[Entry]] | None = None
    tell: Callable[[LoadEnded | Evicted], None] = lambda _: None
    changes: Changes = field(default_factory=Changes)

    def get(self, model: str) -> ManagedModel:
        """Raises ModelNotFound with the ids that exist."""
        if model not in self.models:
            known = ", ".join(sorted(self.models)) or "none"
            raise ModelNotFound(f"no model {model!r} here; the models are: {known}", param="model")
        return self.models[model]

    def describe(self, managed: ManagedModel) -> None:
        """Bring what status tells of the model up to date: after its entry, its load or its measured size changed."""
        managed.card = card_of(managed.entry, managed.loaded)
        managed.needs_bytes = max(managed.bytes_by_device.values(), default=0) or self._needed(managed.entry)

    def _needed(self, entry: Entry) -> int:
        """What a load takes on each of its devices, with the largest context that an empty neuron has room for."""
        if entry.header is None:
            return 0
        needed, empty = 0, self._empty
        budgets = {device.id: device.budget_bytes for device in empty.devices}
        for context in contexts(entry):
            sets = device_sets(entry, partial(self.sizes, entry, context), empty, ())
            needed = max(sets[0].values()) if sets else 0
            if all(size <= budgets.get(device, 0) for device, size in (sets[0] if sets else {}).items()):
                break
        return needed

    @cached_property
    def _empty(self) -> NeuronMemory:
        """The devices as if nothing were on them. Their sizes don't change, and reading them asks drivers."""
        return NeuronMemory(
            [DeviceMemory(status.id, status.budget_bytes, status.total_bytes) for status in self.devices.read()]
        )

    def become(self, managed: ManagedModel, state: ModelState) -> None:
        managed.state = state
        self.revision += 1
        self.changes.tell()

    def release(self, managed: ManagedModel) -> None:
        """The model's memory is free again."""
        self.freed_at |= dict.fromkeys(managed.bytes_by_device, self.clock())
        self.ledger.release(managed.entry.id)
        managed.vacate()
        if managed.successor is not None:
            managed.entry, managed.successor = managed.successor, None
        self.describe(managed)

    def models_in(self, worker: Worker) -> list[ManagedModel]:
        return [managed for managed in self.models.values() if managed.worker is worker]

    def residents(self) -> list[Resident]:
        return [_resident(managed) for managed in self.models.values() if managed.bytes_by_device]

    def memory(self) -> NeuronMemory:
        """What a placement decision is made on, as of now."""
        return NeuronMemory(self.device_memory(), self.residents())

    def device_memory(self) -> list[DeviceMemory]:
        return [
            DeviceMemory(
                id=status.id,
                budget_bytes=status.budget_bytes,
                total_bytes=status.total_bytes,
                foreign_bytes=self.devices.foreign_bytes(status.id, self.ledger.held(status.id)),
                freed_at=self.freed_at.get(status.id),
                healthy=status.healthy,
                health=status.health,
            )
            for status in self.devices.read()
        ]

    def sizes(self, entry: Entry, context: int, group: Sequence[str]) -> list[int]:
        """Bytes on each device of `group`, and no less than what has turned out to be too little."""
        found = self._sizes(entry, context, group)[: len(group)]
        managed = self.models.get(entry.id)
        lacking = managed.too_little.get(context, {}) if managed is not None else {}
        return [max(size, lacking.get(device, 0)) for device, size in zip(group, found, strict=True)]

    def rpc_sizes(self, entry: Entry, context: int, group: Sequence[str]) -> dict[str, int]:
        """Bytes on the devices of other hosts, by the ledger's name for each endpoint."""
        found = self._sizes(entry, context, group)[len(group) :]
        return {f"rpc:{endpoint}": size for endpoint, size in zip(entry.profile.rpc, found, strict=False)}

    def _sizes(self, entry: Entry, context: int, group: Sequence[str]) -> list[int]:
        """As measured when this very configuration was loaded last, else by a dry run, else by the GGUF's header."""
        key = self.measure_key(entry, context, group)
        return self.measurements.get(key) or self.dry_runs.get(key) or estimated_sizes(entry, context, group)

    def measure_key(self, entry: Entry, context: int, group: Sequence[str]) -> str:
        assert entry.header is not None
        eye = entry.projector.hash if entry.projector else None
        spec = replace(self.spec(entry, context, group), model="", path="", mmproj=eye, parity_file=None, faults={})
        return measure_key(entry.header.hash, spec, self.build)

    def spec(self, entry: Entry, context: int, group: Sequence[str]) -> LoadSpec:
        """The order to load `entry` on `group`. One whose split within layers was fatal is not split so again."""
        spec = spec_of(entry, context, self._named_to_worker(group, entry.profile.rpc), self.config)
        managed = self.models.get(entry.id)
        if spec.split_mode == "tensor" and managed is not None and managed.tensor_split_kills:
            return replace(spec, split_mode="layer")
        return spec

    def wants_dry_run(self, entry: Entry, context: int, group: Sequence[str]) -> bool:
        """Whether a dry run is worth its second: for a large model that nobody has measured, on this host alone. For a
        split within layers llama.cpp plans nothing, and CPU devices in a group are one device to it."""
        if entry.header is None or entry.header.size_bytes < self._dry_run_from or entry.profile.rpc:
            return False
        names = self.ggml_names(group)
        if len(names) > 1 and (names[0] == "CPU" or entry.profile.split_mode == "tensor"):
            return False
        key = self.measure_key(entry, context, group)
        return key not in self.dry_runs and self.measurements.get(key) is None

    async def dry_run(self, entry: Entry, context: int, group: Sequence[str]) -> None:
        """Refine the estimate of this configuration, or note that it can't be."""
        key = self.measure_key(entry, context, group)
        by_id = {device.id: device for device in self.devices.devices}
        environment = visibility([by_id[name] for name in group])
        try:
            report = await self.probe_size(self.spec(entry, context, group), environment)
        except ProbeFailed as error:
            self.dry_runs[key] = []
            logger.warning("dry run failed, the estimate stands", extra={"model": entry.id, "reason": str(error)})
            return
        refined = refined_sizes(entry, context, group, self.ggml_names(group), report)
        logger.info("dry run", extra={"model": entry.id, "devices": list(group), "bytes": refined})
        self.dry_runs[key] = refined

    @cached_property
    def _dry_run_from(self) -> float:
        wanted = self.config.neuron.dry_run_from
        return math.inf if wanted == "never" else parse_bytes(wanted)

    def ggml_names(self, group: Sequence[str]) -> list[str]:
        """What llama.cpp calls the devices of `group` in a worker of theirs."""
        by_id = {device.id: device for device in self.devices.devices}
        return ggml_names([by_id[name] for name in group if name in by_id])

    def _named_to_worker(self, group: Sequence[str], rpc: Sequence[str]) -> list[str]:
        """Which devices llama.cpp is told to use. Nothing where it sees only one; the CPU alone is told, so that no GPU
        that it sees is touched, but not beside RPC devices: the layers go to these then."""
        names = self.ggml_names(group)
        if names[:1] == ["CPU"]:
            return [] if rpc else ["CPU"]
        chosen = any(device.ggml for device in self.devices.devices)
        return names if chosen or len(names) > 1 or rpc else []

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` beside everything else; an exception in it is a bug and is logged."""
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a task failed", exc_info=error, extra={"task": task.get_name()})


def _resident(managed: ManagedModel) -> Resident:
    return Resident(
        model=managed.entry.id,
        bytes_by_device=managed.bytes_by_device,
        loaded_at=managed.loaded_at,
        used_at=managed.last_used_at,
        priority=managed.entry.profile.residency_priority,
        load_s=managed.load_seconds,
        pinned=managed.is_pinned,
        busy=managed.running > 0,
        wanted=managed.waiting > 0,
        loading=managed.state == "loading",
        leaving=managed.state == "unloading",
    )
