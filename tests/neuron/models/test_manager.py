"""Orders to load and unload, and the catalogue, over fake workers."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import psutil
import pytest

from cortex.config.profiles import Profile
from cortex.config.settings import EvictionConfig
from cortex.errors import Conflict, ModelLoadFailed
from cortex.wire.events import Finished
from cortex.wire.status import LoadOrder, UnloadOrder
from tests.neuron.conftest import until


async def test_a_load_order_answers_with_the_configuration_really_used(bench) -> None:
    async with bench("m") as neuron:
        job = await neuron.admin.load(LoadOrder("m"))
        assert job.state == "ready"
        assert job.status.context == 64  # what the worker said, not what was asked for


async def test_loading_what_is_loaded_is_no_load(bench) -> None:
    async with bench("m") as neuron:
        await neuron.admin.load(LoadOrder("m"))
        await neuron.admin.load(LoadOrder("m"))
        assert neuron.registry.pool.all()[0].load_cycles == 1


async def test_an_order_that_does_not_wait_answers_with_the_job(bench) -> None:
    async with bench("slow-m") as neuron:
        job = await neuron.admin.load(LoadOrder("slow-m", wait=False))
        assert job.state == "loading"
        assert job.id


async def test_an_order_that_fails_at_once_says_so_though_it_does_not_wait(bench) -> None:
    """It was answered with a job that named no error."""
    async with bench("m", profiles=[Profile("gone", file="gone.gguf")]) as neuron:
        with pytest.raises(ModelLoadFailed, match="no such GGUF"):
            await neuron.admin.load(LoadOrder("gone", wait=False))


async def test_progress_is_told_as_events_up_to_the_end(bench) -> None:
    async with bench("held-m") as neuron:
        await neuron.admin.load(LoadOrder("held-m", wait=False))
        events = neuron.admin.events("held-m")
        async with asyncio.timeout(60):
            while b'"progress":0.5' not in await anext(events):
                pass
        neuron.let_load("held-m")
        *_, last = [frame async for frame in events]
        assert b'"state":"ready"' in last
        assert b'"progress":1.0' in last


async def test_an_order_decided_on_an_old_revision_is_refused(bench) -> None:
    async with bench("a", "b") as neuron:
        old = neuron.registry.revision
        await neuron.admin.load(LoadOrder("a", revision=old))
        with pytest.raises(Conflict):
            await neuron.admin.load(LoadOrder("b", revision=old))


async def test_a_recycling_spares_what_was_loaded_meanwhile(bench) -> None:
    async with bench("a", "b") as neuron:
        await neuron.admin.load(LoadOrder("a"))
        await neuron.admin.load(LoadOrder("b"))
        (worker,) = neuron.registry.pool.all()
        pid, leaving = worker.pid, neuron.registry.models["a"]
        await neuron.admin.unload(UnloadOrder("a"))
        await neuron.manager._recycle(worker, [leaving])
        assert isinstance((await neuron.ask("b"))[-1], Finished)
        assert worker.pid == pid
        await until(lambda: neuron.state("a") == "ready")


async def test_an_unload_that_is_not_waited_for_is_answered_during_a_load(bench) -> None:
    async with bench("held-m") as neuron:
        await neuron.admin.load(LoadOrder("held-m", wait=False))
        await until(lambda: neuron.state("held-m") == "loading")
        assert (await neuron.admin.unload(UnloadOrder("held-m", wait=False))).state == "loading"
        neuron.let_load("held-m")
        await until(lambda: neuron.state("held-m") == "unloaded")


async def test_an_unload_during_a_load_waits_for_it_and_then_unloads(bench) -> None:
    async with bench("slow-m") as neuron:
        await neuron.admin.load(LoadOrder("slow-m", wait=False))
        await until(lambda: neuron.state("slow-m") != "unloaded")
        assert (await neuron.admin.unload(UnloadOrder("slow-m"))).state == "unloaded"


async def test_requests_racing_with_the_end_of_a_models_time_are_all_answered(bench) -> None:
    """A request in the same moment as the unload is served by the kept model or by a fresh load, never lost."""
    eviction = EvictionConfig(min_residency_s=0.0)
    async with bench("m", eviction=eviction) as neuron:
        rng = random.Random(7)
        for _ in range(100):
            asking = asyncio.create_task(neuron.ask("m"))
            for _ in range(rng.randrange(6)):
                await asyncio.sleep(0)
            neuron.manager.expire("m")
            assert isinstance((await asking)[-1], Finished)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_fifty_load_cycles_leave_no_processes_and_no_descriptors_behind(bench) -> None:
    async with bench("m", empty_worker_s=0.0) as neuron:
        me = psutil.Process()

        async def cycle() -> None:
            await neuron.admin.load(LoadOrder("m"))
            await neuron.admin.unload(UnloadOrder("m"))

        for _ in range(3):
            await cycle()
        (worker,) = neuron.registry.pool.all()
        await until(lambda: worker.state == "stopped")
        before = descriptors(), len(me.children())
        for _ in range(50):
            await cycle()
        await until(lambda: worker.state == "stopped")
        await until(lambda: (descriptors(), len(me.children())) <= before)


async def test_a_model_that_cannot_be_served_is_remembered_across_nothing_but_time(bench, tmp_path: Path) -> None:
    """A repaired file is tried again at once: the scan that sees it forgets the failure."""
    async with bench("m") as neuron:
        path = tmp_path / "models" / "m.gguf"
        whole = path.read_bytes()
        path.write_bytes(whole[:100])
        neuron.manager.apply_catalog(neuron.neuron.scan())
        assert "cut short" in (await neuron.ask("m"))[-1].message
        path.write_bytes(whole)
        neuron.manager.apply_catalog(neuron.neuron.scan())
        assert isinstance((await neuron.ask("m"))[-1], Finished)
