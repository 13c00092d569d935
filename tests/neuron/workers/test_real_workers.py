"""The shipped worker under a neuron in this process: what only real llama.cpp and a real process can show."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from cortex.config.profiles import Profile, Profiles
from cortex.config.settings import Config, EvictionConfig, NeuronConfig
from cortex.errors import NoRoom
from cortex.neuron.app import Neuron
from cortex.neuron.workers.pool import worker_command
from cortex.wire.events import Finished
from cortex.wire.status import LoadOrder, UnloadOrder
from tests.neuron.conftest import Bench, until
from tests.scripted import build_scripted

pytestmark = pytest.mark.e2e

MIB = 1024 * 1024
VAST_CELLS = 2_000_000
"""Of 4 KiB each: more than the worker may have."""
ADDRESS_SPACE_KIB = 7_000_000
"""Less than those cells take; and enough for the threads that libraries start on a machine with many cores."""


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Bench]:
    path = build_scripted(tmp_path / "m.gguf", {"<|go|>": ["Hello", " world"]}, blocks=16)
    profiles = [
        Profile("m", file=str(path), context=512, parallel=1),
        Profile("vast", file=str(path), context=512, parallel=1, kv_cells=VAST_CELLS),
    ]
    settings = NeuronConfig(
        cpu_devices=1,
        cpu_memory="8TiB",
        threads=1,
        model_dirs=[],
        huggingface_cache=False,
        state_dir=str(tmp_path),
        empty_worker_s=60.0,
        kv_to_disk=0,
    )
    neuron = Neuron(Config(neuron=settings, eviction=EvictionConfig(defrag_after_cycles=0)), Profiles(models=profiles))
    neuron.registry.pool.command = cramped_worker
    async with neuron.running():
        yield Bench(neuron)


def cramped_worker(name: str, threads: int | None) -> Callable[[int], list[str]]:
    """The shipped worker, to which the system refuses memory beyond a limit. One heap for all its threads: with
    several, which of them a load grows is chance, and what they keep in hand would look like a leak."""
    shell = ["/bin/sh", "-c", f'ulimit -v {ADDRESS_SPACE_KIB}; export MALLOC_ARENA_MAX=1; exec "$@"', "sh"]
    return lambda fd: [*shell, *worker_command(name, threads)(fd)]


def holds(process: psutil.Process) -> tuple[int, int, int, int]:
    """Descriptors, threads, children and bytes that are the process's alone: file pages come and go as others read."""
    return process.num_fds(), process.num_threads(), len(process.children()), process.memory_full_info().uss


async def test_fifty_load_cycles_leave_nothing_behind_in_parent_and_worker(real: Bench) -> None:
    """No descriptors, threads or processes; and no more memory than allocators keep in hand: a quarter of a megabyte a
    cycle, where the least that could leak, a batch's buffers or the model, has several."""

    async def cycle() -> None:
        assert (await real.admin.load(LoadOrder("m"))).state == "ready"
        await real.admin.unload(UnloadOrder("m"))

    # as many threads as there may be from now on: which call first finds none idle is chance
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4))
    start = threading.Barrier(4)
    await asyncio.gather(*(asyncio.to_thread(start.wait, 60) for _ in range(4)))
    for _ in range(8):
        await cycle()
    (worker,) = real.registry.pool.all()
    processes = psutil.Process(), psutil.Process(worker.pid)
    gc.collect()
    before = [holds(process) for process in processes]
    for _ in range(50):
        await cycle()
    gc.collect()
    for process, (descriptors, threads, children, own) in zip(processes, before, strict=True):
        await until(lambda process=process, most=(descriptors, threads, children): holds(process)[:3] <= most)
        assert holds(process)[3] - own < 50 * MIB // 4
    assert worker.load_cycles == 58


async def test_a_load_that_llama_cpp_finds_no_memory_for_is_refused_and_its_neighbour_lives(real: Bench) -> None:
    await real.admin.load(LoadOrder("m"))
    with pytest.raises(NoRoom, match="allocate"):
        await real.admin.load(LoadOrder("vast"))
    assert real.admin.model("vast").estimate_bytes > 8 * 1024 * 1024 * MIB - MIB * 1024
    assert isinstance((await real.ask("m", max_output=4))[-1], Finished)
    assert real.registry.pool.all()[0].restarts == 0
