"""Draining, saved prefixes and empty workers, over fake workers."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from cortex.wire.events import Finished
from cortex.wire.status import LoadOrder, UnloadOrder
from tests.neuron.conftest import until


async def test_unloading_drains_first(bench, tmp_path: Path) -> None:
    async with bench("m") as neuron:
        go = tmp_path / "go"
        answer = asyncio.create_task(neuron.ask("m", f"wait:{go}"))
        await until(lambda: neuron.state("m") == "ready" and neuron.registry.models["m"].running)
        unloading = asyncio.create_task(neuron.admin.unload(UnloadOrder("m")))
        await until(lambda: neuron.state("m") == "unloading")
        go.touch()
        assert isinstance((await answer)[-1], Finished)
        assert (await unloading).state == "unloaded"


async def test_an_empty_worker_exits(bench) -> None:
    async with bench("m") as neuron:
        await neuron.admin.load(LoadOrder("m"))
        (worker,) = neuron.registry.pool.all()
        pid = worker.pid
        await neuron.admin.unload(UnloadOrder("m"))
        await until(lambda: worker.state == "stopped")
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_an_unload_that_its_workers_death_ended_does_not_touch_the_next_load(bench) -> None:
    """It waited for what was cached to be saved, and the worker died over that."""
    async with bench("m") as neuron:
        await neuron.admin.load(LoadOrder("m"))
        (worker,), managed = neuron.registry.pool.all(), neuron.registry.models["m"]
        os.kill(worker.pid, signal.SIGSTOP)
        managed.saved.set()
        unloading = asyncio.create_task(neuron.admin.unload(UnloadOrder("m")))
        await until(lambda: not managed.saved.is_set())
        os.kill(worker.pid, signal.SIGKILL)
        await unloading
        await neuron.admin.load(LoadOrder("m"))
        managed.saved.set()  # as the answer to a later save does
        await until(lambda: not [task for task in neuron.registry.tasks if task.get_name() == "unload-m"])
        assert isinstance((await neuron.ask("m"))[-1], Finished)
        assert (neuron.state("m"), worker.load_cycles) == ("ready", 1)


async def test_cached_prefixes_are_saved_before_an_unload_and_offered_to_the_next_load(bench) -> None:
    async with bench("m") as neuron:
        await neuron.ask("m")
        await neuron.admin.unload(UnloadOrder("m"))
        await neuron.admin.load(LoadOrder("m"))
        (worker,) = neuron.registry.pool.all()
        await until(lambda: "restored m" in worker.log_tail)


async def test_cached_prefixes_stay_off_the_disk_when_told_so(bench, tmp_path: Path) -> None:
    async with bench("m", kv_to_disk=0) as neuron:
        await neuron.ask("m")
        await neuron.admin.unload(UnloadOrder("m"))
        assert not (tmp_path / "state" / "kv").exists()


async def test_a_state_directory_that_cannot_be_written_costs_no_load_and_no_unload(bench, tmp_path: Path) -> None:
    """A full disk looks the same: what was to be kept is lost, and the log says so."""
    (tmp_path / "full").touch()
    async with bench("m", state_dir=str(tmp_path / "full")) as neuron:
        assert (await neuron.admin.load(LoadOrder("m"))).state == "ready"
        assert (await neuron.admin.unload(UnloadOrder("m"))).state == "unloaded"
