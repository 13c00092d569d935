"""What a load of a model would be on this neuron: the worker's LoadSpec, and the bytes it takes on each device."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace as replace_field
from functools import cached_property, partial

from msgspec.structs import replace

from cortex.config.settings import Config, parse_bytes
from cortex.neuron.catalog.entry import Catalog, Entry
from cortex.neuron.devices.devices import Device, DeviceSource
from cortex.neuron.devices.visibility import device_environment, ggml_names
from cortex.neuron.memory.dry_run import ReportFailed, run_memory_plan
from cortex.neuron.memory.ledger import Measurements, measure_key
from cortex.neuron.models.card import card_of
from cortex.neuron.models.load_plan import contexts, device_sets, estimated_sizes, refined_sizes, spec_of
from cortex.neuron.models.state import ManagedModel
from cortex.placement.facts import DeviceMemory, NeuronMemory
from cortex.wire.reports import MemoryPlan
from cortex.wire.worker import LoadSpec

__all__ = ["LoadPlanner"]

logger = logging.getLogger(__name__)

_MAX_BYTES = 2**50
"""No machine has that much memory; a header that asks for more is damaged."""


class LoadPlanner:
    """Sizes are bytes by the best source there is: measured, else from a dry run, else estimated from the header.

    A `group` is a sequence of device ids in split order. `models` is the registry's and only read. `build` names the
    installed llama.cpp, for which measured sizes hold.
    """

    def __init__(
        self,
        config: Config,
        devices: DeviceSource,
        models: Mapping[str, ManagedModel],
        measurements: Measurements,
        build: str,
    ) -> None:
        self.config = config
        self._devices = devices
        self._models = models
        self._measurements = measurements
        self._build = build
        self._checked: dict[str, tuple[Entry, Entry]] = {}
        self.dry_runs: dict[str, list[int]] = {}
        """Sizes by measure key; empty where the dry run failed."""
        self.run_memory_plan: Callable[[LoadSpec, Mapping[str, str]], Awaitable[MemoryPlan]] = run_memory_plan

    # ---- the order

    def spec(self, entry: Entry, context: int, group: Sequence[str]) -> LoadSpec:
        """What the worker of `group` is sent to load `entry`. A tensor split that has crashed once becomes a layer
        split."""
        spec = spec_of(entry, context, self._named_devices(group, entry.profile.rpc), self.config)
        managed = self._models.get(entry.id)
        if spec.split_mode == "tensor" and managed is not None and managed.tensor_split_crashed:
            return replace(spec, split_mode="layer")
        return spec

    def measure_key(self, entry: Entry, context: int, group: Sequence[str]) -> str:
        """Equal for loads of equal size and cache contents: same file and projector, configuration and build."""
        assert entry.header is not None
        projector = entry.projector.hash if entry.projector else None
        spec = replace(
            self.spec(entry, context, group), model="", path="", mmproj=projector, parity_file=None, faults={}
        )
        return measure_key(entry.header.hash, spec, self._build)

    def ggml_names(self, group: Sequence[str]) -> list[str]:
        """ggml's names for the devices of `group` in their worker."""
        return ggml_names(self._known(group))

    def _named_devices(self, group: Sequence[str], rpc: Sequence[str]) -> list[str]:
        """The device list for llama.cpp; empty, which is all it sees, where that is one device. On the CPU the list is
        ["CPU"], so that visible GPUs stay unused, but empty beside RPC devices, which take the layers then."""
        names = self.ggml_names(group)
        if names[:1] == ["CPU"]:
            return [] if rpc else ["CPU"]
        by_name = any(device.ggml for device in self._devices.devices)
        return names if by_name or len(names) > 1 or rpc else []

    def _known(self, group: Sequence[str]) -> list[Device]:
        by_id = {device.id: device for device in self._devices.devices}
        return [by_id[name] for name in group if name in by_id]

    # ---- its size

    def sizes(self, entry: Entry, context: int, group: Sequence[str]) -> list[int]:
        """Bytes on each device of `group`, and no less than loads that ran out of memory have shown to be needed."""
        found = self._sizes(entry, context, group)[: len(group)]
        managed = self._models.get(entry.id)
        min_bytes = managed.min_bytes.get(context, {}) if managed is not None else {}
        return [max(size, min_bytes.get(device, 0)) for device, size in zip(group, found, strict=True)]

    def rpc_sizes(self, entry: Entry, context: int, group: Sequence[str]) -> dict[str, int]:
        """Bytes on the devices of other hosts, by the ledger's name for each endpoint."""
        found = self._sizes(entry, context, group)[len(group) :]
        return {f"rpc:{endpoint}": size for endpoint, size in zip(entry.profile.rpc, found, strict=False)}

    def _sizes(self, entry: Entry, context: int, group: Sequence[str]) -> list[int]:
        key = self.measure_key(entry, context, group)
        return self._measurements.get(key) or self.dry_runs.get(key) or estimated_sizes(entry, context, group)

    def needed_bytes(self, entry: Entry) -> int:
        """Bytes on its fullest device, with the largest context that this neuron has room for when empty."""
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

    def checked(self, catalog: Catalog) -> Catalog:
        """`catalog`, with a problem for each model whose card or size can't be computed or is beyond any machine's
        memory: what a file says must not reach the other models. For the thread of a scan; each entry is checked
        once."""
        entries = {model: self._checked_entry(model, entry) for model, entry in catalog.entries.items()}
        self._checked = {model: (entry, entries[model]) for model, entry in catalog.entries.items()}
        return replace_field(catalog, entries=entries)

    def _checked_entry(self, model: str, entry: Entry) -> Entry:
        known = self._checked.get(model)
        if known is not None and known[0] == entry:
            return known[1]
        if entry.header is None:
            return entry
        try:
            card_of(entry)
            needed = self.needed_bytes(entry)
        except Exception:  # whatever the file has provoked: it is this model's problem alone
            logger.exception("a model's memory can't be estimated", extra={"model": model})
            return replace_field(entry, header=None, problem=f"{entry.path}: its memory can't be estimated")
        if needed > _MAX_BYTES:
            return replace_field(entry, header=None, problem=f"{entry.path}: by its header it needs {needed:.1e} bytes")
        return entry

    @cached_property
    def _empty(self) -> NeuronMemory:
        """The devices without any model. Read once: their sizes don't change, and reading them asks drivers."""
        return NeuronMemory(
            [DeviceMemory(status.id, status.budget_bytes, status.total_bytes) for status in self._devices.read()]
        )

    # ---- dry runs

    def wants_dry_run(self, entry: Entry, context: int, group: Sequence[str]) -> bool:
        """Whether to plan this load before it begins: takes seconds, so only for a large model without a measured size.
        Not with RPC devices, nor for a tensor split, which llama.cpp can't plan, nor over CPU devices, which are one to
        it."""
        if entry.header is None or entry.header.size_bytes < self._dry_run_from or entry.profile.rpc:
            return False
        names = self.ggml_names(group)
        if len(names) > 1 and (names[0] == "CPU" or entry.profile.split_mode == "tensor"):
            return False
        key = self.measure_key(entry, context, group)
        return key not in self.dry_runs and self._measurements.get(key) is None

    async def dry_run(self, entry: Entry, context: int, group: Sequence[str]) -> None:
        """Replace the estimate of this load by llama.cpp's plan; a failure is logged and the estimate kept."""
        key = self.measure_key(entry, context, group)
        try:
            plan = await self.run_memory_plan(self.spec(entry, context, group), device_environment(self._known(group)))
        except ReportFailed as error:
            self.dry_runs[key] = []
            logger.warning("dry run failed, the estimate stands", extra={"model": entry.id, "reason": str(error)})
            return
        refined = refined_sizes(entry, context, group, self.ggml_names(group), plan)
        logger.info("dry run", extra={"model": entry.id, "devices": list(group), "bytes": refined})
        self.dry_runs[key] = refined

    @cached_property
    def _dry_run_from(self) -> float:
        """Bytes of a GGUF."""
        configured = self.config.neuron.dry_run_from
        return math.inf if configured == "never" else parse_bytes(configured)
