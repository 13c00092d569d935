"""Real GPUs: `pytest -m gpu` on a host with a CUDA build of llama.cpp; skipped everywhere else."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pynvml
import pytest

from cortex.config.profiles import Profile, Profiles
from cortex.config.settings import Config, NeuronConfig
from cortex.neuron.app import Neuron
from cortex.wire.events import Failed, Finished
from cortex.wire.inference import Sampling
from cortex.wire.status import LoadOrder, UnloadOrder
from tests.engine.harness import text_of
from tests.models import smollm2
from tests.neuron.conftest import Bench, until

pytestmark = pytest.mark.gpu

MIB = 1024 * 1024


def gpu_count() -> int:
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def mapped_libraries() -> str:
    return Path("/proc/self/maps").read_text()


@pytest.fixture
async def gpus(tmp_path: Path) -> AsyncIterator[Bench]:
    if not gpu_count():
        pytest.skip("NVML finds no NVIDIA GPU here")
    profiles = [
        Profile("one", file=str(smollm2()), context=2048, parallel=2),
        Profile("drawn", file=str(smollm2()), context=2048, parallel=2, backend_sampling=True),
        Profile("two", file=str(smollm2()), context=2048, parallel=2, split_mode="tensor", devices=2),
    ]
    settings = NeuronConfig(model_dirs=[], huggingface_cache=False, state_dir=str(tmp_path), empty_worker_s=0.1)
    neuron = Neuron(Config(neuron=settings), Profiles(models=profiles))
    async with neuron.running():
        yield Bench(neuron)


async def test_a_gpu_answers_and_the_model_really_lives_there(gpus: Bench) -> None:
    assert isinstance((await gpus.ask("one", within_s=120, max_output=8))[-1], Finished)
    (device, size), *_ = gpus.registry.models["one"].bytes_by_device.items()
    assert device.startswith("cuda")
    assert size > 90 * MIB


async def test_the_parent_has_no_cuda_context(gpus: Bench) -> None:
    await gpus.ask("one", within_s=120, max_output=4)
    for device in gpus.registry.devices.devices:
        assert os.getpid() not in gpus.registry.devices.process_bytes(device.id)
    assert "libcuda" not in mapped_libraries()


async def test_the_ledger_holds_what_the_driver_tells_of_the_worker(gpus: Bench) -> None:
    await gpus.admin.load(LoadOrder("one"))
    (worker,) = gpus.registry.pool.all()
    (device,) = worker.devices
    told = gpus.registry.devices.process_bytes(device).get(worker.pid or 0)
    if not told:
        pytest.skip("the driver doesn't tell of our processes here")
    assert gpus.registry.ledger.held(device) == pytest.approx(told, rel=0.1)
    assert worker.id in [process.worker for process in gpus.admin.discovery().devices[0].processes]


async def test_a_dry_run_plans_what_the_gpu_then_holds(gpus: Bench) -> None:
    entry = gpus.registry.models["one"].entry
    device = gpus.registry.devices.devices[0].id
    await gpus.registry.dry_run(entry, 2048, [device])
    (planned,) = gpus.registry.planner.dry_runs[gpus.registry.planner.measure_key(entry, 2048, [device])]
    job = await gpus.admin.load(LoadOrder("one", devices=[device]))
    assert job.state == "ready"
    (reported,) = gpus.registry.planner.sizes(entry, 2048, [device])
    assert planned == pytest.approx(reported, rel=0.05)


async def test_memory_returns_to_its_baseline_after_twenty_loads(gpus: Bench) -> None:
    def used() -> int:
        return sum(device.used_bytes for device in gpus.registry.devices.read())

    baseline = used()
    for _ in range(20):
        await gpus.admin.load(LoadOrder("one"))
        await gpus.admin.unload(UnloadOrder("one"))
    await until(lambda: all(worker.state == "stopped" for worker in gpus.registry.pool.all()), 30)
    await until(lambda: used() - baseline < 8 * MIB, 30)


async def test_a_killed_worker_is_replaced(gpus: Bench) -> None:
    await gpus.ask("one", within_s=120, max_output=4)
    (worker,) = gpus.registry.pool.all()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    await until(lambda: worker.restarts == 1)
    assert isinstance((await gpus.ask("one", within_s=120, max_output=4))[-1], Finished)


async def test_a_gpu_that_draws_the_tokens_says_what_the_cpu_would_have_drawn(gpus: Bench) -> None:
    """Twice, one after the other: each time llama.cpp plans its graphs anew."""
    for sampling in (Sampling(temperature=0.0), Sampling(temperature=0.8, seed=7)):
        asked = {"within_s": 120, "max_output": 12, "sampling": sampling}
        assert text_of(await gpus.ask("drawn", **asked)) == text_of(await gpus.ask("one", **asked))


async def test_two_gpus_share_a_model_and_say_what_one_says(gpus: Bench) -> None:
    """The second call too, then the unload: each of these has crashed llama.cpp's tensor split somewhere."""
    if gpu_count() < 2:
        pytest.skip("needs two GPUs")
    greedy = {"within_s": 180, "max_output": 12, "sampling": {"temperature": 0.0}}
    whole = await gpus.ask("one", **greedy)
    for _ in range(2):
        split = await gpus.ask("two", **greedy)
        assert not isinstance(split[-1], Failed)
        assert len(split) == len(whole)
    await gpus.admin.unload(UnloadOrder("two"))
    assert gpus.state("two") == "unloaded"
