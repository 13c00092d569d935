"""Where devices come from."""

from __future__ import annotations

import pynvml
import pytest

from cortex.config.settings import ConfigError, NeuronConfig
from tests.neuron.devices.fake_nvml import FakeNvml
from tests.neuron.devices.reported import CPU, find_devices, nothing


def test_without_a_gpu_the_cpu_serves_and_a_named_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert [device.id for device in find_devices(NeuronConfig(), nothing, CPU).devices] == ["cpu0"]
    with pytest.raises(ConfigError, match="no GPU"):
        find_devices(NeuronConfig(gpus=[0]), nothing, CPU)


def test_nvidia_gpus_are_nothing_to_a_build_without_cuda(nvml: FakeNvml) -> None:
    assert [device.id for device in find_devices(NeuronConfig(), nothing, CPU).devices] == ["cpu0"]
    with pytest.raises(ConfigError, match="no CUDA"):
        find_devices(NeuronConfig(gpus=[0]), nothing, CPU)
