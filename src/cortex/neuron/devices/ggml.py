"""GPUs of ROCm, Vulkan, Metal and other builds of llama.cpp, from the report of `engine.tools.device_report`.

Nothing here opens a driver. A GPU's used memory is read from sysfs where its kernel driver has it (amdgpu:
mem_info_vram_used); elsewhere it is what was in use at the start plus the ledger's reservations since.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cortex.config.settings import NeuronConfig
from cortex.errors import ConfigError
from cortex.neuron.devices.devices import Device
from cortex.wire.reports import DeviceReport, GgmlDevice
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
    """The GPUs that llama.cpp itself would offload to (llama_model_load_from_file_impl in llama.cpp): discrete ones,
    each once although two backends may see it; integrated ones only where there are no others."""
    kinds = {"gpu", "igpu"}
    found: list[GgmlDevice] = []
    for device in report.devices:
        known = {other.device_id for other in found if other.device_id}
        if device.type in kinds and device.backend != "RPC" and device.device_id not in known:
            found.append(device)
    return [device for device in found if device.type == "gpu"] or found


class GgmlDevices:
    """A DeviceSource. `held_on` gives the ledger's bytes on a device; `environment` is what the workers inherit;
    `sysfs` holds a directory per PCI address. Raises ConfigError for a GPU of `config` that isn't here."""

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
        self._used_files = {name: _used_file(sysfs, found) for name, found in self._found.items()}

    def read(self) -> list[DeviceStatus]:
        return [self._status(device) for device in self.devices]

    def process_bytes(self, device: str) -> dict[int, int]:  # noqa: ARG002  # ggml has no such figure
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
        """Bytes in use by all processes; None when the device is lost."""
        found, used_file = self._found[name], self._used_files[name]
        if used_file is None:
            return max(found.memory_total - found.memory_free, 0) + self._held_on(name)
        try:
            return int(used_file.read_text())
        except (OSError, ValueError):
            return None


def _named(found: Sequence[GgmlDevice]) -> dict[str, GgmlDevice]:
    """By device id: the kind and a number that counts within it."""
    names: dict[str, GgmlDevice] = {}
    for device in found:
        kind = _kind(device)
        names[f"{kind}{sum(name.startswith(kind) for name in names)}"] = device
    return names


def _chosen(found: dict[str, GgmlDevice], wanted: str | list[int | str]) -> dict[str, GgmlDevice]:
    """The devices that `neuron.gpus` names: by position, id, ggml's name or PCI address. Raises ConfigError."""
    if isinstance(wanted, str) or not found:
        return found
    by_name = {str(index): name for index, name in enumerate(found)}
    for name, device in found.items():
        by_name |= {name: name, device.name: name} | ({device.device_id: name} if device.device_id else {})
    missing = [item for item in wanted if str(item) not in by_name]
    if missing:
        raise ConfigError(f"neuron.gpus: {missing[0]!r} is not here; this host has {', '.join(found)}")
    return {by_name[str(item)]: found[by_name[str(item)]] for item in wanted}


def _device(name: str, found: GgmlDevice, margin: float, shown: list[str]) -> Device:
    """A device of ROCm is shown to workers by HIP_VISIBLE_DEVICES. The others are chosen by name in llama.cpp's device
    list: GGML_VK_VISIBLE_DEVICES counts differently from Vulkan's names, Metal has no variable, and CUDA's indices
    (there are no uuids without NVML) change with the environment."""
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
    """The GPUs that this process is shown: ggml's indices count within them. HIP reads CUDA_VISIBLE_DEVICES too."""
    names = environment.get("HIP_VISIBLE_DEVICES") or environment.get("CUDA_VISIBLE_DEVICES") or ""
    return [name.strip() for name in names.split(",") if name.strip()]


def _used_file(sysfs: Path, device: GgmlDevice) -> Path | None:
    """The file with the bytes of `device`'s memory in use; None where its driver has none."""
    if device.device_id is None:
        return None
    path = sysfs / device.device_id / "mem_info_vram_used"
    with suppress(OSError, ValueError):
        int(path.read_text())
        return path
    return None
