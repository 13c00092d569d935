"""What a model really took replaces the estimate, by whoever can tell; fake workers under a stand-in for NVML."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from cortex.config.profiles import Profile
from cortex.errors import NoRoom
from cortex.neuron import app
from cortex.neuron.devices.discovery import find_devices
from cortex.wire.events import Finished
from cortex.wire.reports import DeviceReport, GgmlDevice
from cortex.wire.status import LoadOrder, Reservation, UnloadOrder
from tests.neuron.conftest import Bench, until
from tests.neuron.devices.fake_nvml import FakeNvml

MIB = 1024 * 1024


ON_GPU = {"devices": 0, "gpus": [0], "empty_worker_s": 30.0}


@pytest.fixture
def gpu(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Neurons find NVML's GPUs; nobody starts a probe."""
    report = DeviceReport([GgmlDevice("CUDA0", "CUDA", "gpu")])
    monkeypatch.setattr(app, "find_devices", partial(find_devices, device_report=lambda: report))
    nvml.processes = {}
    return nvml


async def load(neuron: Bench, model: str, nvml: FakeNvml, size: int) -> None:
    """Load `model`; meanwhile the driver comes to show `size` bytes for the worker's process, 0 for nothing."""
    loading = asyncio.create_task(neuron.admin.load(LoadOrder(model)))
    await until(lambda: neuron.admin.model(model).stage == "weights")
    (worker,) = neuron.registry.pool.all()
    if size:
        assert worker.pid is not None
        nvml.processes[worker.pid] = size
    neuron.let_load(model)
    await loading


def remembered(neuron: Bench, model: str) -> list[int]:
    """What the next load of `model` is reckoned to take."""
    managed = neuron.registry.models[model]
    return neuron.registry.planner.sizes(managed.entry, managed.context, ["cuda0"])


def held(neuron: Bench) -> dict[str, Reservation]:
    return {line.model: line for line in neuron.registry.ledger.lines()}


async def test_on_a_gpu_a_model_holds_what_its_process_has_grown_by(bench, gpu: FakeNvml) -> None:
    """The first model answers for the opened device, too; its next load may find that open."""
    async with bench("held-gpu-a", "held-gpu-b", **ON_GPU) as neuron:
        await load(neuron, "held-gpu-a", gpu, 600 * MIB)
        assert held(neuron)["held-gpu-a"] == Reservation("cuda0", "held-gpu-a", 600 * MIB, measured=True)
        assert remembered(neuron, "held-gpu-a") == [100 * MIB]
        await load(neuron, "held-gpu-b", gpu, 720 * MIB)
        assert held(neuron)["held-gpu-b"] == Reservation("cuda0", "held-gpu-b", 120 * MIB, measured=True)
        assert remembered(neuron, "held-gpu-b") == [120 * MIB]


@pytest.mark.parametrize("pid", ["hidden", "somebody else's"])
async def test_where_the_driver_does_not_tell_of_our_process_llama_cpp_is_believed(
    bench, gpu: FakeNvml, monkeypatch: pytest.MonkeyPatch, pid: str
) -> None:
    """In a container the driver's process ids are the host's: another process may have ours."""
    async with bench("held-gpu", **ON_GPU) as neuron:
        if pid != "hidden":
            monkeypatch.setattr(neuron.registry.devices, "process_bytes", lambda _device: AnyPid())
        await load(neuron, "held-gpu", gpu, 0)
        assert held(neuron)["held-gpu"] == Reservation("cuda0", "held-gpu", 100 * MIB, measured=True)


class AnyPid:
    """Every process that is asked for holds the same all the time."""

    def get(self, _pid: int, _default: int) -> int:
        return 5 * MIB


async def test_discovery_tells_who_holds_a_gpu_and_what_ails_it(bench, gpu: FakeNvml) -> None:
    async with bench("held-gpu", **ON_GPU) as neuron:
        await load(neuron, "held-gpu", gpu, 600 * MIB)
        (worker,) = neuron.registry.pool.all()
        gpu.processes |= {2**22 + 1: 70 * MIB}
        gpu.report_xid("GPU-0", 95)
        (device,) = neuron.admin.discovery().devices
        mine, other = device.processes
        assert (mine.worker, mine.bytes, mine.pid) == ("cuda0", 600 * MIB, worker.pid)
        assert (other.worker, other.bytes) == ("", 70 * MIB)
        assert (device.health, device.xids, device.ecc_errors) == ("XID 95: uncontained ECC error", [95], 0)


async def test_layers_on_other_hosts_are_in_the_ledger_under_their_endpoints(bench) -> None:
    endpoints = ["10.0.0.2:50052", "10.0.0.3:50052"]
    profiles = [Profile("held-m", file="held-m.gguf", split_mode="layer", rpc=endpoints)]
    async with bench("held-m", "whole", profiles=profiles) as neuron:
        await neuron.admin.load(LoadOrder("held-m", wait=False))
        await until(lambda: neuron.state("held-m") == "loading")
        estimated = {line.device: line.bytes for line in neuron.registry.ledger.lines()}
        assert list(estimated) == ["cpu0", *(f"rpc:{endpoint}" for endpoint in endpoints)]
        assert all(estimated.values())
        neuron.let_load("held-m")
        await neuron.admin.load(LoadOrder("held-m"))
        assert neuron.registry.ledger.lines() == [
            Reservation("cpu0", "held-m", 10 * MIB, measured=True),
            *(Reservation(f"rpc:{endpoint}", "held-m", 50 * MIB, measured=True) for endpoint in endpoints),
        ]
        assert neuron.admin.model("held-m").devices == ["cpu0"]
        await neuron.admin.unload(UnloadOrder("held-m"))
        assert neuron.registry.ledger.lines() == []


async def test_a_load_that_runs_out_of_memory_teaches_the_ledger_and_harms_no_neighbour(bench) -> None:
    async with bench("oom", "m") as neuron:
        await neuron.admin.load(LoadOrder("m"))
        before = neuron.admin.model("oom").estimate_bytes
        with pytest.raises(NoRoom, match="failed to allocate"):
            await neuron.admin.load(LoadOrder("oom"))
        room = 1024 * MIB - neuron.registry.ledger.held("cpu0")
        assert before < room < neuron.admin.model("oom").estimate_bytes
        assert isinstance((await neuron.ask("m"))[-1], Finished)
