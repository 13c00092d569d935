"""The places on this host where a model can live, as everything else sees them; and the CPU as such places.

GPUs are `nvml`'s (NVIDIA) and `ggml_devices`' (what llama.cpp reports); `discovery` chooses. Reading is cheap enough
for every status request.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from cortex.config.settings import NeuronConfig, parse_bytes
from cortex.wire.status import DeviceKind, DeviceStatus

__all__ = ["CpuDevices", "Device", "DeviceSource", "cpu_name"]


@dataclass(frozen=True, slots=True)
class Device:
    """`id` is this neuron's name for it. A worker's process is shown only its own devices where the driver can be told
    so: `uuid` is what CUDA_VISIBLE_DEVICES takes, `hip` what HIP_VISIBLE_DEVICES takes. Where it can't, the worker sees
    them all and `ggml` is the name that llama.cpp's device list takes; elsewhere "", and names count from 0."""

    id: str
    kind: DeviceKind
    uuid: str
    budget_bytes: int
    ggml: str = ""
    hip: str = ""


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


def cpu_name() -> str:
    """The processor as /proc/cpuinfo calls it."""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or os.uname().machine
