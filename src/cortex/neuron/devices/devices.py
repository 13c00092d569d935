"""The devices of this host that models can be loaded on: what every source of them provides, and the CPU as a source.

GPUs come from `nvml` (NVIDIA) and `ggml` (what llama.cpp reports); `discovery` chooses. All sizes are bytes.
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
    """A device as this neuron knows it, unchanged while the daemon runs. `id` is this neuron's name for it ("cuda0"),
    `budget_bytes` what cortex may use of it.

    A worker is shown only its own devices where the driver has a variable for that: `uuid` is what CUDA_VISIBLE_DEVICES
    takes, `hip` what HIP_VISIBLE_DEVICES takes. Elsewhere a worker sees all devices, and `ggml` is the one's name in
    llama.cpp's device list; it is "" where a variable hides the others, since names then count from 0.
    """

    id: str
    kind: DeviceKind
    uuid: str
    budget_bytes: int
    ggml: str = ""
    hip: str = ""


class DeviceSource(Protocol):
    """Where devices come from. Reading is cheap enough for every status request; for the event loop only.

    `read` gives every device's present status in a stable order, a lost device as unhealthy. `process_bytes` gives
    the bytes that each process (by pid) holds on a device, empty where the driver doesn't report them; `foreign_bytes`
    those in use beyond the `held` ones of the ledger.
    """

    @property
    def devices(self) -> Sequence[Device]: ...
    def read(self) -> list[DeviceStatus]: ...
    def process_bytes(self, device: str) -> dict[int, int]: ...
    def foreign_bytes(self, device: str, held: int) -> int: ...


class CpuDevices:
    """A DeviceSource of one CPU device with the host's memory, or of `cpu_devices` virtual ones of `cpu_memory` each.

    `rss_by_device` gives the resident bytes of a device's workers; `extra_bytes` more are reported as used by others on
    each device (a fault switch).
    """

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

    def process_bytes(self, device: str) -> dict[int, int]:  # noqa: ARG002  # no driver to ask; RSS comes with the heartbeats
        return {}

    def foreign_bytes(self, device: str, held: int) -> int:  # noqa: ARG002  # nobody else uses cortex's budget of host memory
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
    """The "model name" of /proc/cpuinfo; without one, what the platform module knows."""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or os.uname().machine
