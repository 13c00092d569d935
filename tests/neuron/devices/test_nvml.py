"""GPUs as NVML reports them (a stand-in for it)."""

from __future__ import annotations

import pynvml
import pytest

from cortex.config.settings import ConfigError, NeuronConfig
from tests.neuron.devices.fake_nvml import GIB, FakeNvml
from tests.neuron.devices.reported import find_devices


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
