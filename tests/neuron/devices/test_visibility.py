"""Which devices a worker is shown, under which names."""

from __future__ import annotations

from cortex.config.settings import NeuronConfig
from cortex.neuron.devices.ggml import GgmlDevices
from cortex.neuron.devices.visibility import device_environment, ggml_names
from cortex.wire.reports import DeviceReport
from tests.neuron.devices.fake_nvml import FakeNvml
from tests.neuron.devices.reported import ROCM, VULKAN, find_devices, nothing


def test_a_rocm_worker_is_shown_its_gpus_by_number_within_what_we_are_shown() -> None:
    report = DeviceReport(ROCM)
    found = GgmlDevices(NeuronConfig(gpus=[2, 0]), report, nothing, environment={"HIP_VISIBLE_DEVICES": "4,5,7"})
    assert device_environment(found.devices) == {"HIP_VISIBLE_DEVICES": "7,4"}
    assert ggml_names(found.devices) == ["ROCm0", "ROCm1"]
    plain = GgmlDevices(NeuronConfig(gpus=[2]), report, nothing, environment={})
    assert device_environment(plain.devices) == {"HIP_VISIBLE_DEVICES": "2"}


def test_a_vulkan_worker_sees_all_and_is_told_which() -> None:
    found = find_devices(NeuronConfig(gpus=[1]), nothing, *VULKAN)
    assert device_environment(found.devices) == {}
    assert ggml_names(found.devices) == ["Vulkan2"]


def test_nvidia_gpus_are_shown_by_uuid_and_a_cpu_worker_sees_none(nvml: FakeNvml) -> None:
    found = find_devices(NeuronConfig(gpus=[1, 0]))
    assert device_environment(found.devices)["CUDA_VISIBLE_DEVICES"] == "uuid-GPU-1,uuid-GPU-0"
    assert ggml_names(found.devices) == ["CUDA0", "CUDA1"]
    cpu = find_devices(NeuronConfig(cpu_devices=1)).devices
    assert device_environment(cpu)["CUDA_VISIBLE_DEVICES"] == ""
    assert ggml_names(cpu) == ["CPU"]
