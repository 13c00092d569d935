"""The reports of short-lived processes to the neuron's parent, each as one JSON document on standard output.

A probe loads llama.cpp, opens the devices' drivers, answers and ends: neither a crash in a driver nor the memory that
its context holds is then the daemon's.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["DeviceReport", "GgmlDevice", "SizeReport"]


class GgmlDevice(Struct, frozen=True, omit_defaults=True):
    """A device as ggml knows it. `name` is what llama.cpp's device list takes ("Vulkan0"), `backend` its registry
    ("Vulkan"), `device_id` the PCI address in lower case ("0000:c1:00.0") where there is one. Bytes."""

    name: str
    backend: str
    type: Literal["cpu", "gpu", "igpu", "accel", "meta"]
    description: str = ""
    memory_free: int = 0
    memory_total: int = 0
    device_id: str | None = None


class DeviceReport(Struct, frozen=True, omit_defaults=True):
    """Everything this build of llama.cpp sees here, in its own order."""

    devices: list[GgmlDevice]
    llama_cpp: str = ""


class SizeReport(Struct, frozen=True, omit_defaults=True):
    """What a load would allocate beyond the weights, by llama.cpp's own planning without allocating. Bytes.

    `compute` is by ggml's device names; `cache` is every layer's keys, values and states together; `output` the rows
    of scores in host memory.
    """

    compute: dict[str, int]
    cache: int = 0
    output: int = 0
