"""The places on this host where a model can live: GPUs through NVML, or virtual CPU devices with a budget each.

NVML is asked in the parent and makes no CUDA context; only workers open CUDA. Reading is cheap enough for every
status request. One object, `Devices`, owns the NVML session.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import pynvml
from msgspec import structs

from cortex.config import NeuronConfig, parse_bytes
from cortex.errors import ConfigError
from cortex.wire.status import DeviceStatus

__all__ = ["Device", "DeviceSource", "cpu_name", "find_devices"]


@dataclass(frozen=True, slots=True)
class Device:
    """`id` is this neuron's name for it; `uuid` is what CUDA_VISIBLE_DEVICES takes."""

    id: str
    kind: str
    uuid: str
    budget_bytes: int


class DeviceSource(Protocol):
    """Where devices come from. `read` gives them as they are now, a lost one as unhealthy, in a stable order.

    `process_bytes` is what each process (by pid) holds on the device, for "who holds it" and measured loads;
    `foreign_bytes` what is in use beyond the `held` bytes that the ledger knows of.
    """

    @property
    def devices(self) -> Sequence[Device]: ...
    def read(self) -> list[DeviceStatus]: ...
    def process_bytes(self, device: str) -> dict[int, int]: ...
    def foreign_bytes(self, device: str, held: int) -> int: ...


def find_devices(config: NeuronConfig, rss_by_device: Callable[[str], int], extra_bytes: int = 0) -> DeviceSource:
    """The devices `config` asks for. Raises ConfigError when a GPU named there isn't found.

    `rss_by_device` gives the resident bytes of a CPU device's workers; `extra_bytes` is a fault switch: so much more
    of each CPU device is claimed to be in use by others.
    """
    if config.cpu_devices or config.gpus == "none":
        return CpuDevices(config, rss_by_device, extra_bytes)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if config.gpus != "all":
            raise ConfigError(f"neuron.gpus = {config.gpus!r}, but NVML finds no NVIDIA driver: {error}") from error
        return CpuDevices(config, rss_by_device, extra_bytes)
    found = NvmlDevices(config)
    return found if found.devices else CpuDevices(config, rss_by_device, extra_bytes)


class CpuDevices:
    """One CPU device with the host's memory, or `cpu_devices` virtual ones of `cpu_memory` each."""

    def __init__(self, config: NeuronConfig, rss_by_device: Callable[[str], int], extra_bytes: int = 0) -> None:
        count = max(config.cpu_devices, 1)
        self._rss = rss_by_device
        self._extra = extra_bytes
        self._name = cpu_name()
        each = parse_bytes(config.cpu_memory) if config.cpu_memory else psutil.virtual_memory().total // count
        budget = int(each * (1 - config.memory_margin)) if not config.cpu_memory else each
        self._total = each
        self.devices = [Device(f"cpu{index}", "cpu", f"cpu{index}", budget) for index in range(count)]

    def read(self) -> list[DeviceStatus]:
        return [self._status(device) for device in self.devices]

    def process_bytes(self, device: str) -> dict[int, int]:  # noqa: ARG002  # RSS comes with the heartbeats
        return {}

    def foreign_bytes(self, device: str, held: int) -> int:  # noqa: ARG002  # a budget is cortex's own
        return self._extra

    def _status(self, device: Device) -> DeviceStatus:
        used = self._rss(device.id) + self._extra
        return DeviceStatus(
            id=device.id,
            kind="cpu",
            name=self._name,
            uuid=device.uuid,
            total_bytes=self._total,
            free_bytes=max(self._total - used, 0),
            budget_bytes=device.budget_bytes,
            used_bytes=used,
        )


class NvmlDevices:
    """NVIDIA GPUs (MIG instances as devices of their own). Handles are kept; a GPU that stops answering is unhealthy
    until NVML finds it again."""

    def __init__(self, config: NeuronConfig) -> None:
        self._margin = config.memory_margin
        self._driver = str(pynvml.nvmlSystemGetDriverVersion())
        handles = _chosen(_all_handles(), config.gpus)
        self._handles = {f"cuda{index}": handle for index, handle in handles}
        self._last = {name: self._first(name, handle) for name, handle in self._handles.items()}
        self.devices = [Device(status.id, "cuda", status.uuid, status.budget_bytes) for status in self._last.values()]

    def read(self) -> list[DeviceStatus]:
        return [self._read(name) for name in self._handles]

    def process_bytes(self, device: str) -> dict[int, int]:
        try:
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handles[device])
        except pynvml.NVMLError:
            return {}  # containers and MIG often hide processes; the device's total still counts
        return {process.pid: process.usedGpuMemory or 0 for process in processes}

    def foreign_bytes(self, device: str, held: int) -> int:
        """Everything that the ledger doesn't know: other programs and our workers' CUDA contexts."""
        return max(self._last[device].used_bytes - held, 0)

    def _first(self, name: str, handle: Any) -> DeviceStatus:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        major, minor = _optional(pynvml.nvmlDeviceGetCudaComputeCapability, handle) or (0, 0)
        return DeviceStatus(
            id=name,
            kind="cuda",
            name=str(pynvml.nvmlDeviceGetName(handle)),
            uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
            total_bytes=int(memory.total),
            free_bytes=int(memory.free),
            budget_bytes=int(memory.total * (1 - self._margin)),
            compute_capability=f"{major}.{minor}" if major else None,
            driver=self._driver,
        )

    def _read(self, name: str) -> DeviceStatus:
        handle = self._handles[name]
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        except pynvml.NVMLError as error:
            return structs.replace(self._last[name], healthy=False, health=f"lost: {error}", free_bytes=0)
        rates = _optional(pynvml.nvmlDeviceGetUtilizationRates, handle)
        power = _optional(pynvml.nvmlDeviceGetPowerUsage, handle)
        health = _ecc_health(handle)
        self._last[name] = structs.replace(
            self._last[name],
            free_bytes=int(memory.free),
            used_bytes=int(memory.used),
            utilisation=rates.gpu / 100 if rates else None,
            temperature_c=_optional(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
            power_w=power / 1000 if power is not None else None,
            healthy=not health,
            health=health,
        )
        return self._last[name]


def _all_handles() -> list[tuple[str, Any]]:
    """("0", handle) for each GPU, ("1.0", handle) for the instances of GPU 1 in MIG mode (the GPU itself can't be used
    then)."""
    found: list[tuple[str, Any]] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        mode = _optional(pynvml.nvmlDeviceGetMigMode, gpu)
        if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            found.append((str(index), gpu))
            continue
        for instance in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            with suppress(pynvml.NVMLError):  # slots without an instance answer NOT_FOUND
                found.append((f"{index}.{instance}", pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, instance)))
    return found


def _chosen(handles: list[tuple[str, Any]], wanted: str | list[int | str]) -> list[tuple[str, Any]]:
    if isinstance(wanted, str):
        return handles
    by_name = {name: (name, handle) for name, handle in handles}
    by_name |= {str(pynvml.nvmlDeviceGetUUID(handle)): (name, handle) for name, handle in handles}
    missing = [item for item in wanted if str(item) not in by_name]
    if missing:
        raise ConfigError(f"neuron.gpus: {missing[0]!r} is not here; this host has {', '.join(by_name) or 'no GPU'}")
    return [by_name[str(item)] for item in wanted]


def _optional(ask: Callable[..., Any], *arguments: Any) -> Any:
    """NVML's answer, or None where this GPU doesn't tell (MIG instances, old boards)."""
    try:
        return ask(*arguments)
    except pynvml.NVMLError:
        return None


def _ecc_health(handle: Any) -> str:
    """Uncorrected memory errors since boot make a GPU unfit; "" is healthy or doesn't say."""
    errors = _optional(
        pynvml.nvmlDeviceGetTotalEccErrors,
        handle,
        pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        pynvml.NVML_VOLATILE_ECC,
    )
    return f"{errors} uncorrected ECC errors since boot" if errors else ""


def cpu_name() -> str:
    """The processor as /proc/cpuinfo calls it."""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or os.uname().machine
