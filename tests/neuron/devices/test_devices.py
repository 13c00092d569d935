"""The CPU as devices."""

from __future__ import annotations

from cortex.config.settings import NeuronConfig
from tests.neuron.devices.fake_nvml import GIB
from tests.neuron.devices.reported import find_devices


def test_virtual_cpu_devices_have_the_budget_they_are_given() -> None:
    found = find_devices(NeuronConfig(cpu_devices=2, cpu_memory="2GiB"), lambda device: GIB if device == "cpu1" else 0)
    assert [(device.id, device.budget_bytes) for device in found.devices] == [("cpu0", 2 * GIB), ("cpu1", 2 * GIB)]
    assert [status.free_bytes for status in found.read()] == [2 * GIB, GIB]
