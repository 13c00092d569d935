"""What the watchdog finds, over fake workers."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from msgspec.structs import replace

from cortex.config.settings import EvictionConfig
from cortex.errors import ModelLoadFailed
from cortex.neuron.workers import watchdog as watchdog_module
from cortex.neuron.workers.watchdog import Watchdog
from cortex.wire.events import Event, Failed, Finished, Started
from cortex.wire.status import LoadOrder, UnloadOrder
from tests.neuron.conftest import Bench, until


async def test_a_loaded_model_proves_itself_by_a_canary_before_it_counts_as_servable(bench) -> None:
    async with bench("m") as neuron:
        await neuron.admin.load(LoadOrder("m"))
        await until(lambda: neuron.admin.model("m").servable)


async def test_nobody_is_judged_by_a_time_in_which_the_neuron_itself_stood_still(
    bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped neuron kills no worker for its silence when it goes on."""
    async with bench("m") as neuron:
        now, sleeps, looks = 0.0, iter([1.0, 60.0, 1.0]), []

        async def sleep(_period_s: float) -> None:
            nonlocal now
            if (slept_s := next(sleeps, None)) is None:
                raise asyncio.CancelledError
            now += slept_s

        monkeypatch.setattr(watchdog_module, "tick", sleep)
        monkeypatch.setattr(neuron.registry, "clock", lambda: now)
        watchdog = Watchdog(neuron.manager)
        monkeypatch.setattr(watchdog, "tick", lambda: looks.append(now))
        with pytest.raises(asyncio.CancelledError):
            await watchdog.run()
        assert looks == [1.0, 62.0]


async def test_an_idle_model_is_asked_again_after_a_while(bench) -> None:
    async with bench("m", canary_s=0.1) as neuron:
        await neuron.admin.load(LoadOrder("m"))
        await until(lambda: neuron.registry.models["m"].canaries_seen >= 2)
        assert neuron.admin.model("m").idle_s > 0  # a canary is no use of the model


async def test_a_worker_that_stops_reporting_is_replaced_and_its_request_answered(bench) -> None:
    async with bench("m", heartbeat_s=2.0) as neuron:
        events: list[Event] = []
        serving = asyncio.create_task(neuron.neuron.backend.serve(neuron.request("m", "mute"), events.extend))
        await until(lambda: any(isinstance(event, Started) for event in events))
        (worker,) = neuron.registry.pool.all()
        await until(lambda: worker.restarts == 1)
        serving.cancel()
        assert isinstance((await neuron.ask("m"))[-1], Finished)


async def test_a_worker_over_its_memory_limit_is_replaced(bench) -> None:
    async with bench("m", worker_memory=500) as neuron:  # a fake worker claims 1000 bytes per model
        await neuron.admin.load(LoadOrder("m"))
        (worker,) = neuron.registry.pool.all()
        await until(lambda: worker.restarts >= 1)


async def test_a_worker_with_more_models_than_cycles_is_recycled_once(bench) -> None:
    """What recycling loads again is no reason to recycle: clients starved while all models were loaded anew."""
    eviction = EvictionConfig(min_residency_s=0.0, defrag_after_cycles=2)
    async with bench("a", "b", "c", eviction=eviction) as neuron:
        for model in "abc":
            await neuron.admin.load(LoadOrder(model))
        (worker,), watchdog = neuron.registry.pool.all(), Watchdog(neuron.manager)
        pid = worker.pid
        watchdog.tick()
        assert {neuron.state(model) for model in "abc"} == {"ready"}
        for _ in range(2):
            await neuron.admin.unload(UnloadOrder("c"))
            await neuron.admin.load(LoadOrder("c"))
        watchdog.tick()
        await until(lambda: worker.pid not in (pid, None) and {neuron.state(model) for model in "abc"} == {"ready"})
        pid = worker.pid
        watchdog.tick()
        assert {neuron.state(model) for model in "abc"} == {"ready"}
        assert worker.pid == pid


async def test_a_worker_is_recycled_after_enough_load_cycles(bench) -> None:
    """The models that live there come back in the fresh process."""
    eviction = EvictionConfig(min_residency_s=0.0, defrag_after_cycles=3)
    async with bench("a", "b", eviction=eviction) as neuron:
        await neuron.admin.load(LoadOrder("a"))
        (worker,) = neuron.registry.pool.all()
        pid = worker.pid
        for _ in range(3):
            await neuron.admin.load(LoadOrder("b"))
            await neuron.admin.unload(UnloadOrder("b"))
        await until(lambda: worker.pid not in (pid, None) and neuron.state("a") == "ready")
        assert worker.restarts == 0


def break_device(neuron: Bench, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on `broken` is reported as a GPU with a fatal error, and the watchdog has looked often enough."""
    whole = neuron.registry.devices.read

    def read() -> object:
        sick = {"healthy": False, "health": "XID 79: fallen off the bus"}
        return [replace(status, **sick) if status.id == broken else status for status in whole()]

    monkeypatch.setattr(neuron.registry.devices, "read", read)
    watchdog = Watchdog(neuron.manager)
    for _ in range(3):
        watchdog.tick()


async def test_models_of_a_broken_device_go_elsewhere_and_are_not_blamed(bench, monkeypatch) -> None:
    async with bench("m", devices=2) as neuron:
        await neuron.admin.load(LoadOrder("m"))
        (worker,) = neuron.registry.pool.all()
        (home,) = worker.devices
        break_device(neuron, home, monkeypatch)
        assert isinstance((await neuron.ask("m"))[-1], Finished)
        assert home not in neuron.registry.models["m"].bytes_by_device
        assert neuron.registry.models["m"].deaths == 0
        assert worker.state == "dead"


async def test_with_no_other_device_the_broken_one_is_named(bench, monkeypatch) -> None:
    async with bench("m") as neuron:
        await neuron.admin.load(LoadOrder("m"))
        break_device(neuron, "cpu0", monkeypatch)
        await until(lambda: neuron.state("m") == "unloaded")
        (*_, end) = await neuron.ask("m")
        assert isinstance(end, Failed)
        assert end.code == "no_room"
        assert "cpu0 is unhealthy (XID 79: fallen off the bus)" in end.message


async def test_a_device_that_does_not_answer_once_keeps_its_models(bench, monkeypatch) -> None:
    async with bench("m") as neuron:
        await neuron.admin.load(LoadOrder("m"))
        watchdog, whole = Watchdog(neuron.manager), neuron.registry.devices.read
        for healthy in (False, False, True, False, False):
            monkeypatch.setattr(
                neuron.registry.devices, "read", lambda h=healthy: [replace(status, healthy=h) for status in whole()]
            )
            watchdog.tick()
        assert neuron.registry.pool.all()[0].restarts == 0
        assert neuron.state("m") == "ready"


async def test_a_stopped_worker_is_replaced(bench) -> None:
    """kill -STOP: the process lives, but its loop doesn't step."""
    async with bench("m", heartbeat_s=2.0) as neuron:
        await neuron.admin.load(LoadOrder("m"))
        (worker,) = neuron.registry.pool.all()
        os.kill(worker.pid, signal.SIGSTOP)
        assert isinstance((await neuron.ask("m"))[-1], Finished)
        assert worker.restarts == 1


async def test_a_load_with_progress_outlives_the_stall_limit_and_one_without_does_not(bench) -> None:
    async with bench("slow-m", "stall-m", load_stall_s=100.0) as neuron:
        managed, began = neuron.registry.models["slow-m"], neuron.registry.clock()
        # a minute passes with every tenth of the load
        neuron.registry.clock = lambda: began + 600 * (managed.loading.progress if managed.loading else 0.0)
        assert (await neuron.admin.load(LoadOrder("slow-m"))).state == "ready"
        await until(lambda: managed.canary_sent_at is None)  # else the next jump of the clock would make it late
        loading = asyncio.create_task(neuron.admin.load(LoadOrder("stall-m")))
        await until(lambda: neuron.admin.model("stall-m").stage == "loading")
        neuron.registry.clock = lambda: began + 700
        with pytest.raises(ModelLoadFailed, match="no progress"):
            await loading


async def test_models_wait_for_each_others_loads_in_one_worker_without_being_late(bench) -> None:
    """The worker loads one after the other: neither the loads that wait nor the models that it holds are judged."""
    async with bench("m", "held-a", "held-b", load_stall_s=100.0) as neuron:
        await neuron.admin.load(LoadOrder("m"))
        managed = neuron.registry.models["m"]
        await until(lambda: managed.canary_sent_at is None)
        for model in ("held-a", "held-b"):
            await neuron.admin.load(LoadOrder(model, wait=False))
        await until(lambda: all(neuron.admin.model(model).progress > 0 for model in ("held-a", "held-b")))
        (worker,), now = neuron.registry.pool.all(), neuron.registry.clock()
        neuron.registry.models["held-a"].loading.progress_at = now + 1000
        managed.canary_sent_at = now
        neuron.registry.clock = lambda: now + 1050
        Watchdog(neuron.manager).tick()
        assert (worker.state, managed.canary_sent_at) == ("ready", now + 1050)
        neuron.let_load("held-a")
        await until(lambda: neuron.state("held-a") == "ready")
        Watchdog(neuron.manager).tick()
        assert worker.state == "ready"  # held-b made its last progress 1,050 s ago, but it was not its turn
        neuron.let_load("held-b")
        await until(lambda: neuron.state("held-b") == "ready")
        assert worker.restarts == 0


async def test_an_idle_model_leaves_after_its_time_and_watching_does_not_keep_it(bench) -> None:
    eviction = EvictionConfig(idle_ttl_s=0.5, min_residency_s=0.0)
    async with bench("m", eviction=eviction) as neuron:
        await neuron.ask("m")

        def watched() -> bool:
            neuron.admin.status()
            neuron.neuron.metrics.exposition()
            return neuron.state("m") == "unloaded"

        await until(watched)
