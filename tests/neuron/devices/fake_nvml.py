# ruff: noqa: N802, N815 - the names of the stand-in are NVML's own
"""A stand-in for NVML's library: GPUs with sensors, processes and events, none of them real."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml

__all__ = ["GIB", "FakeNvml"]

GIB = 1024**3


class FakeNvml:
    """Two plain GPUs and one in MIG mode with one instance; `lost` names GPUs that fell off the bus."""

    NVMLError = pynvml.NVMLError
    NVML_DEVICE_MIG_ENABLE = 1
    NVML_TEMPERATURE_GPU = NVML_MEMORY_ERROR_TYPE_UNCORRECTED = NVML_VOLATILE_ECC = 0
    nvmlEventTypeXidCriticalError = 8

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self.ecc: dict[str, int] = {}
        self.events: dict[str, list[Any]] = {}
        self.processes = {42: GIB}

    def nvmlInit(self) -> None: ...
    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.1"

    def nvmlDeviceGetCount(self) -> int:
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"GPU-{index}"

    def nvmlDeviceGetMigMode(self, handle: str) -> tuple[int, int]:
        return (1, 1) if handle == "GPU-2" else (0, 0)

    def nvmlDeviceGetMaxMigDeviceCount(self, _handle: str) -> int:
        return 2

    def nvmlDeviceGetMigDeviceHandleByIndex(self, _handle: str, index: int) -> str:
        if index:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return "MIG-2-0"

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return f"uuid-{handle}"

    def nvmlDeviceGetName(self, handle: str) -> str:
        return f"Fake {handle}"

    def nvmlDeviceGetCudaComputeCapability(self, _handle: str) -> tuple[int, int]:
        return 9, 0

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        if handle in self.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return SimpleNamespace(total=10 * GIB, free=8 * GIB, used=2 * GIB)

    def nvmlDeviceGetUtilizationRates(self, _handle: str) -> Any:
        return SimpleNamespace(gpu=50)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        if handle.startswith("MIG"):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 123_000

    def nvmlDeviceGetTemperature(self, _handle: str, _sensor: int) -> int:
        return 60

    def nvmlDeviceGetTotalEccErrors(self, handle: str, _kind: int, _counter: int) -> int:
        return self.ecc.get(handle, 0)

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: str) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.processes.items()]

    def nvmlEventSetCreate(self) -> list[Any]:
        return []

    def nvmlDeviceRegisterEvents(self, handle: str, kinds: int, events: list[Any]) -> None:
        assert kinds == self.nvmlEventTypeXidCriticalError
        if handle.startswith("MIG"):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self.events.setdefault(handle, []).append(events)

    def nvmlEventSetWait_v2(self, events: list[Any], timeout_ms: int) -> Any:
        assert timeout_ms == 0
        if not events:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
        return events.pop(0)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, _handle: str) -> str:
        return "GPU-2"

    def nvmlDeviceGetGpuInstanceId(self, _handle: str) -> int:
        return 5

    def report_xid(self, handle: str, xid: int, instance: int = 0xFFFFFFFF) -> None:
        for events in self.events[handle]:
            events.append(SimpleNamespace(eventData=xid, gpuInstanceId=instance))
