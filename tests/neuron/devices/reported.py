"""Devices as llama.cpp would report them, and the choice among them."""

from __future__ import annotations

from typing import Any

from cortex.config.settings import NeuronConfig
from cortex.neuron.devices.devices import DeviceSource
from cortex.neuron.devices.discovery import find_devices as discover
from cortex.wire.reports import DeviceReport, GgmlDevice
from tests.neuron.devices.fake_nvml import GIB

CPU = GgmlDevice("CPU", "CPU", "cpu")
CUDA = GgmlDevice("CUDA0", "CUDA", "gpu", "Fake", 8 * GIB, 10 * GIB, "0000:01:00.0")


VULKAN = [
    GgmlDevice("Vulkan0", "Vulkan", "igpu", "Integrated", 4 * GIB, 4 * GIB, "0000:00:02.0"),
    GgmlDevice("Vulkan1", "Vulkan", "gpu", "Radeon A", 15 * GIB, 16 * GIB, "0000:03:00.0"),
    GgmlDevice("Vulkan2", "Vulkan", "gpu", "Radeon B", 16 * GIB, 16 * GIB, "0000:04:00.0"),
]
ROCM = [
    GgmlDevice(f"ROCm{index}", "ROCm", "gpu", "Instinct", 60 * GIB, 64 * GIB, f"0000:{index}3:00.0")
    for index in range(3)
]


def nothing(_device: str) -> int:
    return 0


def find_devices(
    config: NeuronConfig, rss_on: Any = nothing, *reported: GgmlDevice, held_on: Any = nothing
) -> DeviceSource:
    return discover(config, rss_on, held_on, device_report=lambda: DeviceReport([CPU, *(reported or (CUDA,))]))
