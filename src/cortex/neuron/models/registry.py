"""What this neuron holds: every model and its state, the ledger, the workers. Kept and read here, decided elsewhere.

Written by `manager` and what it delegates to (`load_queue`, `loader`, `unloader`, `notice_handler`), all on the event
loop; everyone else reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import InitVar, dataclass, field
from typing import Any, Literal

from cortex.config.hints import shown
from cortex.config.settings import Config
from cortex.errors import ModelNotFound
from cortex.neuron.catalog.downloads import OnProgress
from cortex.neuron.catalog.entry import Entry
from cortex.neuron.devices.devices import DeviceSource
from cortex.neuron.memory.ledger import Ledger, Measurements
from cortex.neuron.models.card import card_of
from cortex.neuron.models.changes import Changes
from cortex.neuron.models.planner import LoadPlanner
from cortex.neuron.models.state import ManagedModel
from cortex.neuron.workers.active_requests import ActiveRequests
from cortex.neuron.workers.pool import WorkerPool
from cortex.neuron.workers.process import Worker
from cortex.placement.facts import DeviceMemory, NeuronMemory, Resident
from cortex.wire.status import ModelState

__all__ = ["Evicted", "LoadEnded", "ModelRegistry"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadEnded:
    """A load has ended, `seconds` after it began; `code` is the error's, "" for success."""

    model: str
    seconds: float
    code: str = ""


@dataclass(frozen=True, slots=True)
class Evicted:
    """A model was chosen to be unloaded: to make `room` for another, or because it was `idle`."""

    model: str
    reason: Literal["room", "idle"]


@dataclass
class ModelRegistry:
    """The models by id, with their requests, workers and memory.

    `revision` rises with every change of what is loaded. `clock` gives monotonic seconds; `fetch` downloads an entry's
    file and returns the entry with it; `freed_at` is when memory of a device was last released; `on_event` is called on
    the event loop; `warnings` are the status document's. `pool` is set by ModelManager; `build` names the installed
    llama.cpp.
    """

    config: Config
    devices: DeviceSource
    clock: Callable[[], float]
    measurements: Measurements
    build: InitVar[str]
    ledger: Ledger = field(default_factory=Ledger)
    active_requests: ActiveRequests = field(default_factory=ActiveRequests)
    models: dict[str, ManagedModel] = field(default_factory=dict)
    planner: LoadPlanner = field(init=False)
    revision: int = 0
    closed: bool = False
    pool: WorkerPool = field(init=False)
    freed_at: dict[str, float] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    fetch: Callable[[Entry, OnProgress], Awaitable[Entry]] | None = None
    on_event: Callable[[LoadEnded | Evicted], None] = lambda _: None
    changes: Changes = field(default_factory=Changes)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self, build: str) -> None:
        self.planner = LoadPlanner(self.config, self.devices, self.models, self.measurements, build)

    def configure(self, config: Config) -> None:
        """Replace the configuration: it holds for loads and limits from now on."""
        self.config = self.planner.config = config

    def get(self, model: str) -> ManagedModel:
        """Raises ModelNotFound with the ids that exist."""
        if model not in self.models:
            known = ", ".join(sorted(self.models)) or "none"
            raise ModelNotFound(f"no model {shown(model)} here; the models are: {known}", param="model")
        return self.models[model]

    def update_card(self, managed: ManagedModel) -> None:
        """Recompute card and needed bytes: after a change of the model's entry, its load or its measured size."""
        managed.card = card_of(managed.entry, managed.loaded)
        held = max(managed.bytes_by_device.values(), default=0)
        managed.needs_bytes = held or self.planner.needed_bytes(managed.entry)

    def set_state(self, managed: ManagedModel, state: ModelState) -> None:
        managed.state = state
        self.revision += 1
        self.changes.tell()

    def release(self, managed: ManagedModel) -> None:
        """Release the model's memory in the ledger; a changed entry that waited for that comes into force."""
        self.freed_at |= dict.fromkeys(managed.bytes_by_device, self.clock())
        self.ledger.release(managed.entry.id)
        managed.clear_worker()
        if managed.next_entry is not None:
            managed.entry, managed.next_entry = managed.next_entry, None
        self.update_card(managed)

    def models_in(self, worker: Worker) -> list[ManagedModel]:
        return [managed for managed in self.models.values() if managed.worker is worker]

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` as a task that `ModelManager.close` cancels; an exception in it is a bug and is logged."""
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a task failed", exc_info=error, extra={"task": task.get_name()})

    # ---- what placement decides on

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


def _resident(managed: ManagedModel) -> Resident:
    return Resident(
        model=managed.entry.id,
        bytes_by_device=managed.bytes_by_device,
        loaded_at=managed.loaded_at,
        used_at=managed.last_used_at,
        priority=managed.entry.profile.residency_priority,
        load_s=managed.load_seconds,
        pinned=managed.pinned,
        busy=managed.running > 0,
        wanted=managed.waiting > 0,
        loading=managed.state == "loading",
        leaving=managed.state == "unloading",
    )
