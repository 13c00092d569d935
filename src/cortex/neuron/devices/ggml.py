"""GPUs of ROCm, Vulkan, Metal and other builds of llama.cpp, as a probe process reported them at the start.

Nothing here talks to a driver. Where Linux tells a GPU's memory in sysfs (amdgpu does), that is read; elsewhere memory
in use is what others held at the start and what the ledger has given away since.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cortex.config.settings import NeuronConfig
from cortex.errors import ConfigError
from cortex.neuron.devices.devices import Device
from cortex.wire.probes import DeviceReport, GgmlDevice
from cortex.wire.status import DeviceKind, DeviceStatus

__all__ = ["GgmlDevices", "usable"]

_KINDS: dict[str, DeviceKind] = {
    "CUDA": "cuda",
    "ROCm": "rocm",
    "HIP": "rocm",
    "Vulkan": "vulkan",
    "Metal": "metal",
    "MTL": "metal",
}
_SYSFS = Path("/sys/bus/pci/devices")


def usable(report: DeviceReport) -> list[GgmlDevice]:
    """What llama.cpp itself would offload to: discrete GPUs, one that two backends see only once; integrated ones only
    where there is nothing else."""
    kinds = {"gpu", "igpu"}
    found: list[GgmlDevice] = []
    for device in report.devices:
        known = {other.device_id for other in found if other.device_id}
        if device.type in kinds and device.backend != "RPC" and device.device_id not in known:
            found.append(device)
    return [device for device in found if device.type == "gpu"] or found


class GgmlDevices:
    """A DeviceSource. `held_on` gives the ledger's bytes on a device; `environment` is what the workers inherit."""

    def __init__(
        self,
        config: NeuronConfig,
        report: DeviceReport,
        held_on: Callable[[str], int],
        environment: Mapping[str, str] = os.environ,
        sysfs: Path = _SYSFS,
    ) -> None:
        self._held_on = held_on
        self._found = _chosen(_named(usable(report)), config.gpus)
        shown = _visible(environment)
        self.devices = [_device(name, found, config.memory_margin, shown) for name, found in self._found.items()]
        self._meters = {name: _meter(sysfs, found) for name, found in self._found.items()}

    def read(self) -> list[DeviceStatus]:
        return [self._status(device) for device in self.devices]

    def process_bytes(self, device: str) -> dict[int, int]:  # noqa: ARG002  # no driver is asked
        return {}

    def foreign_bytes(self, device: str, held: int) -> int:
        used = self._used(device)
        return max(used - held, 0) if used is not None else 0

    def _status(self, device: Device) -> DeviceStatus:
        found, used = self._found[device.id], self._used(device.id)
        return DeviceStatus(
            id=device.id,
            kind=device.kind,
            name=found.description or found.name,
            uuid=device.uuid,
            total_bytes=found.memory_total,
            free_bytes=0 if used is None else max(found.memory_total - used, 0),
            budget_bytes=device.budget_bytes,
            used_bytes=used or 0,
            healthy=used is not None,
            health="" if used is not None else "lost: the kernel has no such device any more",
            backend=found.backend,
        )

    def _used(self, name: str) -> int | None:
        """Bytes in use by anyone; None when the device is gone."""
        found, meter = self._found[name], self._meters[name]
        if meter is None:
            return max(found.memory_total - found.memory_free, 0) + self._held_on(name)
        try:
            return int(meter.read_text())
        except (OSError, ValueError):
            return None


def _named(found: Sequence[GgmlDevice]) -> dict[str, GgmlDevice]:
    """By our names: the kind and a number that counts within it."""
    names: dict[str, GgmlDevice] = {}
    for device in found:
        kind = _kind(device)
        names[f"{kind}{sum(name.startswith(kind) for name in names)}"] = device
    return names


def _chosen(found: dict[str, GgmlDevice], wanted: str | list[int | str]) -> dict[str, GgmlDevice]:
    """Those that `neuron.gpus` names: by position, by our name or ggml's, or by PCI address."""
    if isinstance(wanted, str) or not found:
        return found
    by_word = {str(index): name for index, name in enumerate(found)}
    for name, device in found.items():
        by_word |= {name: name, device.name: name} | ({device.device_id: name} if device.device_id else {})
    missing = [item for item in wanted if str(item) not in by_word]
    if missing:
        raise ConfigError(f"neuron.gpus: {missing[0]!r} is not here; this host has {', '.join(found)}")
    return {by_word[str(item)]: found[by_word[str(item)]] for item in wanted}


def _device(name: str, found: GgmlDevice, margin: float, shown: list[str]) -> Device:
    """ROCm can be told which GPUs a process sees; Vulkan counts differently there than in its names, Metal can't, and
    CUDA's numbers (without NVML there are no uuids) change with the environment: these are named to llama.cpp."""
    kind, ordinal = _kind(found), found.name.removeprefix(found.backend)
    hip = ""
    if kind == "rocm" and ordinal.isdigit():
        hip = shown[int(ordinal)] if int(ordinal) < len(shown) else ordinal
    return Device(
        id=name,
        kind=kind,
        uuid=found.device_id or found.name,
        budget_bytes=int(found.memory_total * (1 - margin)),
        ggml="" if hip else found.name,
        hip=hip,
    )


def _kind(device: GgmlDevice) -> DeviceKind:
    return _KINDS.get(device.backend, "gpu")


def _visible(environment: Mapping[str, str]) -> list[str]:
    """The GPUs that we ourselves are shown: ggml's numbers count within them. HIP heeds CUDA's variable, too."""
    words = environment.get("HIP_VISIBLE_DEVICES") or environment.get("CUDA_VISIBLE_DEVICES") or ""
    return [word.strip() for word in words.split(",") if word.strip()]


def _meter(sysfs: Path, device: GgmlDevice) -> Path | None:
    """The file that says how much of its memory is in use; None where the driver offers none."""
    if device.device_id is None:
        return None
    path = sysfs / device.device_id / "mem_info_vram_used"
    with suppress(OSError, ValueError):
        int(path.read_text())
        return path
    return None
