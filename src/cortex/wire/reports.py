"""Reports of the engine's short-lived programs to the neuron's parent, each one JSON document on standard output.

Such a program (`engine.tools`) loads llama.cpp, opens the devices' drivers, prints its report and exits: neither a
crash of a driver nor the memory of its context is then the daemon's. All sizes are bytes.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["DeviceReport", "GgmlDevice", "MemoryPlan"]


class GgmlDevice(Struct, frozen=True, omit_defaults=True):
    """A device as ggml knows it (ggml_backend_dev_props). `name` is what llama.cpp's device list takes ("Vulkan0"),
    `backend` its registry ("Vulkan"), `device_id` the PCI address in lower case ("0000:c1:00.0") or None."""

    name: str
    backend: str
    type: Literal["cpu", "gpu", "igpu", "accel", "meta"]
    description: str = ""
    memory_free: int = 0
    memory_total: int = 0
    device_id: str | None = None


class DeviceReport(Struct, frozen=True, omit_defaults=True):
    """Every device that this build of llama.cpp sees here, in its own order; `llama_cpp` is its version."""

    devices: list[GgmlDevice]
    llama_cpp: str = ""


class MemoryPlan(Struct, frozen=True, omit_defaults=True):
    """What a load would allocate beyond the weights, from llama.cpp's plan of the context without allocating it.

    `compute` buffers are by ggml's device names; `cache` is every layer's keys, values and recurrent states together;
    `output` the rows of logits in host memory.
    """

    compute: dict[str, int]
    cache: int = 0
    output: int = 0
