# ruff: noqa: N802 - the names of the stand-in are NVML's own
"""Devices by configuration: virtual CPUs, and GPUs as NVML tells of them (a stand-in for its library)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from cortex.config import ConfigError, NeuronConfig
from cortex.neuron import devices
from cortex.neuron.devices import find_devices

GIB = 1024**3


class FakeNvml:
    """Two plain GPUs and one in MIG mode with one instance; `lost` names GPUs that fell off the bus."""

    NVMLError = pynvml.NVMLError
    NVML_DEVICE_MIG_ENABLE = 1
    NVML_TEMPERATURE_GPU = NVML_MEMORY_ERROR_TYPE_UNCORRECTED = NVML_VOLATILE_ECC = 0

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self.ecc: dict[str, int] = {}

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
        return [SimpleNamespace(pid=42, usedGpuMemory=GIB)]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setattr(devices, "pynvml", fake)
    return fake


def nothing(_device: str) -> int:
    return 0


def test_every_gpu_and_mig_instance_is_found_with_what_nvml_tells(nvml: FakeNvml) -> None:
    found = find_devices(NeuronConfig(), nothing)
    first, _, instance = found.read()
    assert [device.id for device in found.devices] == ["cuda0", "cuda1", "cuda2.0"]
    assert first.total_bytes == 10 * GIB
    assert first.budget_bytes == int(10 * GIB * 0.95)
    assert (first.utilisation, first.temperature_c, first.power_w, first.compute_capability) == (0.5, 60, 123.0, "9.0")
    assert instance.power_w is None
    assert found.process_bytes("cuda0") == {42: GIB}
    assert found.foreign_bytes("cuda0", GIB) == GIB


def test_gpus_are_chosen_by_index_and_uuid_and_a_wrong_one_is_named(nvml: FakeNvml) -> None:
    found = find_devices(NeuronConfig(gpus=["uuid-GPU-1", 0]), nothing)
    assert [device.id for device in found.devices] == ["cuda1", "cuda0"]
    with pytest.raises(ConfigError, match="7 is not here"):
        find_devices(NeuronConfig(gpus=[7]), nothing)


def test_a_gpu_that_falls_off_the_bus_is_reported_and_comes_back(nvml: FakeNvml) -> None:
    found = find_devices(NeuronConfig(gpus=[0]), nothing)
    nvml.lost.add("GPU-0")
    (lost,) = found.read()
    assert not lost.healthy
    assert "lost" in lost.health
    nvml.lost.clear()
    assert found.read()[0].healthy


def test_uncorrected_memory_errors_make_a_gpu_unfit(nvml: FakeNvml) -> None:
    nvml.ecc["GPU-0"] = 3
    (device,) = find_devices(NeuronConfig(gpus=[0]), nothing).read()
    assert not device.healthy
    assert "3 uncorrected" in device.health


def test_virtual_cpu_devices_have_the_budget_they_are_given() -> None:
    found = find_devices(NeuronConfig(cpu_devices=2, cpu_memory="2GiB"), lambda device: GIB if device == "cpu1" else 0)
    assert [(device.id, device.budget_bytes) for device in found.devices] == [("cpu0", 2 * GIB), ("cpu1", 2 * GIB)]
    assert [status.free_bytes for status in found.read()] == [2 * GIB, GIB]


def test_without_a_gpu_the_cpu_serves_and_a_named_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert [device.id for device in find_devices(NeuronConfig(), nothing).devices] == ["cpu0"]
    with pytest.raises(ConfigError, match="no NVIDIA driver"):
        find_devices(NeuronConfig(gpus=[0]), nothing)
