"""GPUs as llama.cpp reports them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortex.config.settings import ConfigError, NeuronConfig
from cortex.neuron.devices.ggml import GgmlDevices
from cortex.wire.reports import DeviceReport, GgmlDevice
from tests.neuron.devices.fake_nvml import GIB
from tests.neuron.devices.reported import VULKAN, find_devices, nothing


def test_discrete_gpus_of_a_vulkan_build_are_devices_with_their_memory() -> None:
    found = find_devices(NeuronConfig(), nothing, *VULKAN)
    first, second = found.read()
    assert (first.id, first.kind, first.backend, first.name) == ("vulkan0", "vulkan", "Vulkan", "Radeon A")
    assert (first.total_bytes, first.free_bytes, first.used_bytes) == (16 * GIB, 15 * GIB, GIB)
    assert second.budget_bytes == int(16 * GIB * 0.95)
    assert first.uuid == "0000:03:00.0"


def test_an_integrated_gpu_counts_where_there_is_no_other_and_one_seen_twice_counts_once() -> None:
    assert [device.id for device in find_devices(NeuronConfig(), nothing, VULKAN[0]).devices] == ["vulkan0"]
    twice = GgmlDevice("ROCm0", "ROCm", "gpu", "Radeon A", device_id="0000:03:00.0", memory_total=GIB)
    assert [device.id for device in find_devices(NeuronConfig(), nothing, twice, *VULKAN).devices] == [
        "rocm0",
        "vulkan0",
    ]


def test_reported_gpus_are_chosen_by_position_name_and_address() -> None:
    for word in (1, "vulkan1", "Vulkan2", "0000:04:00.0"):
        (device,) = find_devices(NeuronConfig(gpus=[word]), nothing, *VULKAN).devices
        assert device.ggml == "Vulkan2"
    with pytest.raises(ConfigError, match="9 is not here"):
        find_devices(NeuronConfig(gpus=[9]), nothing, *VULKAN)


def test_memory_that_the_ledger_gave_away_is_not_free_and_not_foreign() -> None:
    found = find_devices(NeuronConfig(gpus=[0]), nothing, *VULKAN, held_on=lambda _device: 3 * GIB)
    assert found.read()[0].used_bytes == 4 * GIB
    assert found.foreign_bytes("vulkan0", 3 * GIB) == GIB


def test_amd_gpus_are_metered_by_the_kernel_and_missed_when_they_go(tmp_path: Path) -> None:
    meter = tmp_path / "0000:03:00.0" / "mem_info_vram_used"
    meter.parent.mkdir()
    meter.write_text(f"{2 * GIB}\n")
    found = GgmlDevices(NeuronConfig(), DeviceReport(VULKAN[1:2]), nothing, sysfs=tmp_path)
    assert found.read()[0].used_bytes == 2 * GIB
    assert found.foreign_bytes("vulkan0", GIB) == GIB
    meter.unlink()
    (lost,) = found.read()
    assert not lost.healthy
    assert lost.free_bytes == 0
