"""Devices by configuration: virtual CPUs, GPUs as NVML tells of them (a stand-in), GPUs as llama.cpp reports them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pynvml
import pytest

from cortex.config.settings import ConfigError, NeuronConfig
from cortex.neuron.devices.devices import DeviceSource
from cortex.neuron.devices.discovery import find_devices as discover
from cortex.neuron.devices.ggml import GgmlDevices
from cortex.neuron.devices.visibility import device_environment, ggml_names
from cortex.neuron.memory.dry_run import ReportFailed, run_device_report
from cortex.wire.reports import DeviceReport, GgmlDevice
from tests.neuron.devices.fake_nvml import GIB, FakeNvml


def nothing(_device: str) -> int:
    return 0


CPU = GgmlDevice("CPU", "CPU", "cpu")
CUDA = GgmlDevice("CUDA0", "CUDA", "gpu", "Fake", 8 * GIB, 10 * GIB, "0000:01:00.0")


def find_devices(
    config: NeuronConfig, rss_on: Any = nothing, *reported: GgmlDevice, held_on: Any = nothing
) -> DeviceSource:
    return discover(config, rss_on, held_on, device_report=lambda: DeviceReport([CPU, *(reported or (CUDA,))]))


def test_every_gpu_and_mig_instance_is_found_with_what_nvml_tells(nvml: FakeNvml) -> None:
    found = find_devices(NeuronConfig())
    first, _, instance = found.read()
    assert [device.id for device in found.devices] == ["cuda0", "cuda1", "cuda2.0"]
    assert first.total_bytes == 10 * GIB
    assert first.budget_bytes == int(10 * GIB * 0.95)
    assert (first.utilisation, first.temperature_c, first.power_w, first.compute_capability) == (0.5, 60, 123.0, "9.0")
    assert instance.power_w is None
    assert found.process_bytes("cuda0") == {42: GIB}
    assert found.foreign_bytes("cuda0", GIB) == GIB


def test_gpus_are_chosen_by_index_and_uuid_and_a_wrong_one_is_named(nvml: FakeNvml) -> None:
    found = find_devices(NeuronConfig(gpus=["uuid-GPU-1", 0]))
    assert [device.id for device in found.devices] == ["cuda1", "cuda0"]
    with pytest.raises(ConfigError, match="7 is not here"):
        find_devices(NeuronConfig(gpus=[7]))


def test_a_gpu_that_falls_off_the_bus_is_reported_and_comes_back(nvml: FakeNvml) -> None:
    found = find_devices(NeuronConfig(gpus=[0]))
    nvml.lost.add("GPU-0")
    (lost,) = found.read()
    assert not lost.healthy
    assert "lost" in lost.health
    nvml.lost.clear()
    assert found.read()[0].healthy


def test_uncorrected_memory_errors_make_a_gpu_unfit(nvml: FakeNvml) -> None:
    nvml.ecc["GPU-0"] = 3
    (device,) = find_devices(NeuronConfig(gpus=[0])).read()
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
    assert [device.id for device in find_devices(NeuronConfig(), nothing, CPU).devices] == ["cpu0"]
    with pytest.raises(ConfigError, match="no GPU"):
        find_devices(NeuronConfig(gpus=[0]), nothing, CPU)


def test_a_fatal_xid_makes_a_gpu_unfit_for_good_and_its_neighbour_stays(nvml: FakeNvml) -> None:
    found = find_devices(NeuronConfig(gpus=[0, 1]))
    nvml.report_xid("GPU-0", 79)
    for _ in range(2):  # the event is told once, the GPU stays as it is
        broken, well = found.read()
        assert (broken.healthy, broken.health, broken.xids) == (False, "XID 79: fallen off the bus", [79])
        assert well.healthy


@pytest.mark.parametrize("xid", [48, 63, 94, 95])
def test_memory_errors_told_as_xids_make_a_gpu_unfit(nvml: FakeNvml, xid: int) -> None:
    found = find_devices(NeuronConfig(gpus=[0]))
    nvml.report_xid("GPU-0", xid)
    assert f"XID {xid}: " in found.read()[0].health


def test_a_programs_own_fault_is_told_and_harms_no_gpu(nvml: FakeNvml) -> None:
    found = find_devices(NeuronConfig(gpus=[0]))
    nvml.report_xid("GPU-0", 31)
    (device,) = found.read()
    assert device.healthy
    assert device.xids == [31]


def test_a_mig_instance_hears_of_its_own_errors_and_its_gpus_only(nvml: FakeNvml) -> None:
    found = find_devices(NeuronConfig(gpus=["2.0"]))
    nvml.report_xid("GPU-2", 94, instance=6)
    assert found.read()[0].healthy
    nvml.report_xid("GPU-2", 94, instance=5)
    assert not found.read()[0].healthy


def test_a_driver_without_events_is_no_reason_to_serve_nothing(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(nvml, "nvmlEventSetCreate", refuse)
    assert find_devices(NeuronConfig(gpus=[0])).read()[0].healthy


# ---- what llama.cpp reports

VULKAN = [
    GgmlDevice("Vulkan0", "Vulkan", "igpu", "Integrated", 4 * GIB, 4 * GIB, "0000:00:02.0"),
    GgmlDevice("Vulkan1", "Vulkan", "gpu", "Radeon A", 15 * GIB, 16 * GIB, "0000:03:00.0"),
    GgmlDevice("Vulkan2", "Vulkan", "gpu", "Radeon B", 16 * GIB, 16 * GIB, "0000:04:00.0"),
]
ROCM = [
    GgmlDevice(f"ROCm{index}", "ROCm", "gpu", "Instinct", 60 * GIB, 64 * GIB, f"0000:{index}3:00.0")
    for index in range(3)
]


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


def test_nvidia_gpus_are_nothing_to_a_build_without_cuda(nvml: FakeNvml) -> None:
    assert [device.id for device in find_devices(NeuronConfig(), nothing, CPU).devices] == ["cpu0"]
    with pytest.raises(ConfigError, match="no CUDA"):
        find_devices(NeuronConfig(gpus=[0]), nothing, CPU)


# ---- the device report


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_the_real_report_has_the_cpu_and_no_gpu_on_a_cpu_build() -> None:
    report = run_device_report()
    assert [device.name for device in report.devices if device.type == "cpu"] == ["CPU"]
    assert all(device.memory_total > 0 for device in report.devices if device.type == "cpu")
    assert report.llama_cpp


def test_what_the_report_process_prints_is_its_answer() -> None:
    document = msgspec.json.encode(DeviceReport(VULKAN))
    assert run_device_report(program(f"print({document.decode()!r})")) == DeviceReport(VULKAN)


@pytest.mark.parametrize(
    ("text", "deadline_s", "reason"),
    [
        ("import sys; sys.exit('no driver')", 60.0, "exit code 1: no driver"),
        ("import os; os.abort()", 60.0, "exit code -6"),
        ("print('GPU!')", 60.0, "can't be read"),
        ("import time; time.sleep(600)", 0.5, "within"),
    ],
)
def test_a_report_that_fails_says_why_and_the_neuron_serves_without(
    text: str, deadline_s: float, reason: str, caplog: pytest.LogCaptureFixture, nvml: FakeNvml
) -> None:
    def ask() -> DeviceReport:
        return run_device_report(program(text), deadline_s=deadline_s)

    with pytest.raises(ReportFailed, match=reason):
        ask()
    found = discover(NeuronConfig(), nothing, nothing, device_report=ask)
    assert found.devices[0].id == "cuda0"
    assert "llama.cpp can't be asked for its devices" in caplog.text
