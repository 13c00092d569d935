"""NVIDIA GPUs through NVML, which opens no CUDA context: memory, sensors, processes and errors.

Functions and units: docs.nvidia.com/deploy/nvml-api (bytes, °C, milliwatts, percent).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pynvml
from msgspec import structs

from cortex.config.settings import NeuronConfig
from cortex.errors import ConfigError
from cortex.neuron.devices.devices import Device
from cortex.wire.status import DeviceStatus

__all__ = ["NvmlDevices", "open_nvml"]

_FATAL_XIDS = {
    48: "double-bit ECC error",
    62: "halted internal micro-controller",
    63: "memory row remapped for an ECC error",
    64: "memory row could not be remapped",
    74: "NVLink error",
    79: "fallen off the bus",
    92: "high rate of single-bit ECC errors",
    94: "contained ECC error",
    95: "uncontained ECC error",
    119: "GSP firmware doesn't answer",
    120: "GSP firmware error",
    140: "unrecovered ECC error",
}
"""XIDs after which NVIDIA asks for a reset of the GPU, at once or soon (docs.nvidia.com/deploy/xid-errors). Others
(13, 31, 43, 45) are faults of the program that ran there, whose worker fails by itself."""
_KEPT_XIDS = 8
_WHOLE_GPU = 0xFFFFFFFF
"""`gpuInstanceId` of an event that concerns no single MIG instance (nvmlEventData_t)."""


def open_nvml(config: NeuronConfig) -> NvmlDevices | str:
    """The GPUs that `config` chooses, or why there are none. Raises ConfigError when one named there isn't found."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"NVML finds no NVIDIA driver: {error}"
    handles = _all_handles()
    if not handles:
        return "NVML finds no GPU"
    return NvmlDevices(config.memory_margin, _chosen(handles, config.gpus))


class NvmlDevices:
    """A DeviceSource; MIG instances are devices of their own. `margin` is the share of a device's memory that is no
    part of its budget.

    Handles are kept. A GPU for which NVML returns errors is unhealthy until it answers again, one with a fatal XID
    until the neuron restarts.
    """

    def __init__(self, margin: float, handles: list[tuple[str, Any]]) -> None:
        self._margin = margin
        self._driver = str(pynvml.nvmlSystemGetDriverVersion())
        self._handles = {f"cuda{index}": handle for index, handle in handles}
        self._watches = {name: _XidWatch(name, handle) for name, handle in self._handles.items()}
        self._last = {name: self._first(name, handle) for name, handle in self._handles.items()}
        self.devices = [Device(status.id, "cuda", status.uuid, status.budget_bytes) for status in self._last.values()]

    def read(self) -> list[DeviceStatus]:
        return [self._read(name) for name in self._handles]

    def process_bytes(self, device: str) -> dict[int, int]:
        try:
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handles[device])
        except pynvml.NVMLError:
            return {}  # often not permitted in containers and under MIG; the device's total is still right
        return {process.pid: process.usedGpuMemory or 0 for process in processes}

    def foreign_bytes(self, device: str, held: int) -> int:
        """Bytes not in the ledger, as of the last `read`: other programs' and the CUDA contexts of our workers."""
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
            backend="CUDA",
        )

    def _read(self, name: str) -> DeviceStatus:
        handle, watch = self._handles[name], self._watches[name]
        watch.poll()
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        except pynvml.NVMLError as error:
            health = "; ".join([f"lost: {error}", *watch.fatal])
            return structs.replace(self._last[name], healthy=False, health=health, free_bytes=0, xids=list(watch.seen))
        rates = _optional(pynvml.nvmlDeviceGetUtilizationRates, handle)
        power = _optional(pynvml.nvmlDeviceGetPowerUsage, handle)
        errors = _uncorrected_errors(handle)
        problems = [f"{errors} uncorrected ECC errors since boot"] if errors else []
        problems += watch.fatal
        self._last[name] = structs.replace(
            self._last[name],
            free_bytes=int(memory.free),
            used_bytes=int(memory.used),
            utilisation=rates.gpu / 100 if rates else None,
            temperature_c=_optional(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
            power_w=power / 1000 if power is not None else None,
            ecc_errors=errors,
            xids=list(watch.seen),
            healthy=not problems,
            health="; ".join(problems),
        )
        return self._last[name]


class _XidWatch:
    """The critical XIDs of one GPU since the neuron started, from an NVML event set of its own. Where the driver has no
    such events (WSL, old boards) there are never any."""

    def __init__(self, name: str, handle: Any) -> None:
        self.seen: list[int] = []
        self.fatal: list[str] = []
        gpu = handle
        self._instance: int | None = None
        if "." in name:  # the events of a MIG instance are its GPU's, with its number
            gpu = _optional(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle)
            self._instance = _optional(pynvml.nvmlDeviceGetGpuInstanceId, handle)
        self._events = None if gpu is None else _xid_events(gpu)

    def poll(self) -> None:
        while self._events is not None:
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError:
                return  # NVML_ERROR_TIMEOUT: no more events. `_read` reports a lost GPU
            if self._instance is None or event.gpuInstanceId in (self._instance, _WHOLE_GPU):
                self._add(int(event.eventData))

    def _add(self, xid: int) -> None:
        self.seen = [*self.seen, xid][-_KEPT_XIDS:]
        message = f"XID {xid}: {_FATAL_XIDS.get(xid)}"
        if xid in _FATAL_XIDS and message not in self.fatal:
            self.fatal.append(message)


def _xid_events(gpu: Any) -> Any:
    """An event set registered for `gpu`; None where the driver doesn't support it."""
    try:
        events = pynvml.nvmlEventSetCreate()
        pynvml.nvmlDeviceRegisterEvents(gpu, pynvml.nvmlEventTypeXidCriticalError, events)
    except pynvml.NVMLError:
        return None
    return events


def _all_handles() -> list[tuple[str, Any]]:
    """("0", handle) for each GPU, ("1.0", handle) for the instances of GPU 1 in MIG mode (CUDA can't use the GPU itself
    then)."""
    found: list[tuple[str, Any]] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        mode = _optional(pynvml.nvmlDeviceGetMigMode, gpu)
        if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            found.append((str(index), gpu))
            continue
        for instance in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            with suppress(pynvml.NVMLError):  # NVML_ERROR_NOT_FOUND for a slot without an instance
                found.append((f"{index}.{instance}", pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, instance)))
    return found


def _chosen(handles: list[tuple[str, Any]], wanted: str | list[int | str]) -> list[tuple[str, Any]]:
    if isinstance(wanted, str):
        return handles
    by_name = {name: (name, handle) for name, handle in handles}
    by_name |= {str(pynvml.nvmlDeviceGetUUID(handle)): (name, handle) for name, handle in handles}
    missing = [item for item in wanted if str(item) not in by_name]
    if missing:
        raise ConfigError(f"neuron.gpus: {missing[0]!r} is not here; this host has {', '.join(by_name)}")
    return [by_name[str(item)] for item in wanted]


def _optional(query: Callable[..., Any], *arguments: Any) -> Any:
    """NVML's answer; None where this GPU doesn't support the query (MIG instances, old boards)."""
    try:
        return query(*arguments)
    except pynvml.NVMLError:
        return None


def _uncorrected_errors(handle: Any) -> int | None:
    """Memory errors since boot that ECC could not correct; None where there is no ECC."""
    errors = _optional(
        pynvml.nvmlDeviceGetTotalEccErrors,
        handle,
        pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        pynvml.NVML_VOLATILE_ECC,
    )
    return None if errors is None else int(errors)
