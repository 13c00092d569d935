"""Loading, unloading and what goes wrong with it, over fake workers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from cortex.config.profiles import Profile
from cortex.config.settings import EvictionConfig
from cortex.errors import Conflict, ModelLoadFailed, NoRoom
from cortex.neuron.catalog.scan import Entry
from cortex.wire.events import Failed, Finished
from cortex.wire.status import LoadOrder, UnloadOrder
from cortex.wire.worker import LoadSpec
from tests.neuron.conftest import room_for, until


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


async def test_a_bad_file_fails_with_the_reason_and_blocks_no_other_model(bench) -> None:
    async with bench("bad", "m") as neuron:
        with pytest.raises(ModelLoadFailed, match="nonsense"):
            await neuron.admin.load(LoadOrder("bad"))
        assert isinstance((await neuron.ask("m"))[-1], Finished)
        remembered = (await neuron.ask("bad"))[-1]
        assert isinstance(remembered, Failed)
        assert remembered.retry_after is not None
        assert neuron.registry.pool.all()[0].load_cycles == 1


async def test_a_model_whose_projector_is_missing_is_not_served_blind(bench) -> None:
    async with bench("m", profiles=[Profile("m", file="m.gguf", mmproj="gone.gguf")]) as neuron:
        with pytest.raises(ModelLoadFailed, match=r"mmproj .*gone\.gguf"):
            await neuron.admin.load(LoadOrder("m"))


async def test_a_worker_killed_while_loading_fails_the_load_and_the_next_request_loads_again(bench) -> None:
    async with bench("stall-m") as neuron:
        waiting = asyncio.create_task(neuron.ask("stall-m"))
        await until(
            lambda: (
                neuron.registry.models["stall-m"].loading
                and neuron.registry.models["stall-m"].loading.stage == "loading"
            )
        )
        (worker,) = neuron.registry.pool.all()
        os.kill(worker.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            (*_, end) = await waiting
        assert isinstance(end, Failed)
        assert "SIGKILL" in end.message
        neuron.manager.ensure("stall-m")
        await until(lambda: worker.state == "ready")
        assert neuron.state("stall-m") == "loading"


async def test_a_worker_that_cannot_be_started_fails_the_load(bench) -> None:
    """An upgrade may have moved the program away, the host may be out of processes."""
    async with bench("m") as neuron:
        neuron.registry.pool.command = lambda _name, _threads: lambda _fd: ["/nowhere/python"]
        with pytest.raises(ModelLoadFailed, match=r"can't be started: .*/nowhere/python"):
            await neuron.admin.load(LoadOrder("m"))
        assert neuron.state("m") == "failed"
        assert neuron.registry.ledger.lines() == []


async def test_three_deaths_in_a_row_are_enough(bench) -> None:
    """The status then holds exit code and last words; only an explicit load tries again."""
    async with bench("die") as neuron:
        for _ in range(3):
            await neuron.ask("die")
        (worker,) = neuron.registry.pool.all()
        assert worker.restarts == 3
        events = await neuron.ask("die")
        assert worker.restarts == 3
        assert "GGML_ASSERT: no mercy" in events[-1].message
        assert neuron.admin.status().workers[0].exit_code == 7
        assert any("no mercy" in line for line in neuron.admin.status().workers[0].log_tail)
        with pytest.raises(ModelLoadFailed):
            await neuron.admin.load(LoadOrder("die"))
        assert worker.restarts == 4


async def test_models_come_back_after_their_worker_died(bench) -> None:
    async with bench("a", "b") as neuron:
        await neuron.admin.load(LoadOrder("a"))
        await neuron.admin.load(LoadOrder("b"))
        (worker,) = neuron.registry.pool.all()
        os.kill(worker.pid, signal.SIGKILL)
        await until(lambda: worker.restarts == 1)
        await until(lambda: neuron.state("a") == neuron.state("b") == "ready")


async def test_a_death_leaves_the_other_device_alone(bench, tmp_path: Path) -> None:
    profiles = [Profile("a", file="a.gguf", devices=[0]), Profile("b", file="b.gguf", devices=[1])]
    async with bench("a", "b", devices=2, profiles=profiles) as neuron:
        go = tmp_path / "go"
        other = asyncio.create_task(neuron.ask("b", f"wait:{go}"))
        await until(lambda: neuron.state("b") == "ready" and neuron.registry.models["b"].running)
        await neuron.ask("a", "half")
        go.touch()
        assert isinstance((await other)[-1], Finished)


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


async def test_a_load_behind_the_decision_to_stop_its_worker_gets_the_next_process(bench) -> None:
    """Sent to the one that is told to go, it would be lost: that end was asked for, and nobody is blamed."""
    async with bench("m", empty_worker_s=3600.0) as neuron:
        await neuron.ask("m")
        await neuron.admin.unload(UnloadOrder("m"))
        (worker,) = neuron.registry.pool.all()
        stopping = asyncio.create_task(worker.stop())
        await asyncio.sleep(0)
        assert worker.state == "draining"
        assert isinstance((await neuron.ask("m"))[-1], Finished)
        await stopping


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


async def test_a_signal_to_a_worker_does_not_take_its_exit_code_away(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that just died of its own is signalled, too, when its link breaks first. Whoever polls, reaps."""
    async with bench("m") as neuron:
        await neuron.admin.load(LoadOrder("m"))
        (worker,) = neuron.registry.pool.all()
        polls: list[object] = []
        monkeypatch.setattr(subprocess.Popen, "poll", polls.append)
        worker.kill("a test")
        assert polls == []
        await until(lambda: worker.restarts == 1)


async def test_a_worker_that_ignores_sigterm_is_killed(bench) -> None:
    async with bench("stubborn") as neuron:
        await neuron.admin.load(LoadOrder("stubborn"))
        (worker,) = neuron.registry.pool.all()
        await neuron.admin.unload(UnloadOrder("stubborn"))
        await until(lambda: worker.state == "stopped")
        assert worker.exit_code == -signal.SIGKILL
        assert neuron.registry.ledger.held("cpu0") == 0


async def test_two_models_share_room_for_one(bench) -> None:
    """A, B, A, B … fifty times at once: everyone is answered, with far fewer loads than requests."""
    async with bench("a", "b", memory=room_for(1.5)) as neuron:
        answers = await asyncio.gather(*(neuron.ask("ab"[n % 2], f"p{n}") for n in range(50)))
        assert all(isinstance(events[-1], Finished) for events in answers)
        assert neuron.registry.pool.all()[0].load_cycles < 10


async def test_a_streaming_model_is_not_evicted(bench, tmp_path: Path) -> None:
    async with bench("a", "b", memory=room_for(1.5)) as neuron:
        go = tmp_path / "go"
        first = asyncio.create_task(neuron.ask("a", f"wait:{go}"))
        await until(lambda: neuron.state("a") == "ready" and neuron.registry.models["a"].running)
        second = asyncio.create_task(neuron.ask("b"))
        await until(lambda: neuron.registry.models["b"].loading)
        assert neuron.state("a") == "ready"
        go.touch()
        assert isinstance((await first)[-1], Finished)
        assert isinstance((await second)[-1], Finished)
        assert neuron.state("a") == "unloaded"


async def test_a_starved_load_gets_its_turn_although_the_other_model_is_always_busy(bench, tmp_path: Path) -> None:
    eviction = EvictionConfig(min_residency_s=0.0, starvation_s=0.2)
    async with bench("a", "b", memory=room_for(1.5), eviction=eviction) as neuron:

        async def keep_busy() -> None:
            while isinstance((await neuron.ask("a"))[-1], Finished):
                pass

        busy = [asyncio.create_task(keep_busy()) for _ in range(4)]
        try:
            await until(lambda: neuron.state("a") == "ready")
            assert isinstance((await neuron.ask("b"))[-1], Finished)
        finally:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)


async def test_a_model_closed_for_a_load_that_finds_memory_elsewhere_is_open_again(bench, tmp_path: Path) -> None:
    """It stayed closed while anything waited, and what waited for it waited for ever."""
    eviction = EvictionConfig(min_residency_s=0.0, starvation_s=0.2)
    async with bench("a", "b", "c", devices=2, memory=room_for(1.5), eviction=eviction) as neuron:
        models, gates = neuron.registry.models, {name: tmp_path / name for name in "ab"}
        busy = []
        for name in "ab":
            busy.append(asyncio.create_task(neuron.ask(name, f"wait:{gates[name]}")))
            await until(lambda name=name: models[name].running)
        other = asyncio.create_task(neuron.ask("c"))
        await until(lambda: models["a"].closing)
        assert not models["b"].closing
        behind = asyncio.create_task(neuron.ask("a", "again"))
        await until(lambda: models["a"].waiting)
        gates["b"].touch()
        assert isinstance((await other)[-1], Finished)
        assert isinstance((await behind)[-1], Finished)
        gates["a"].touch()
        assert all(isinstance(events[-1], Finished) for events in await asyncio.gather(*busy))
        assert neuron.state("a") == "ready"


async def test_pins_that_leave_no_room_are_named_at_once(bench) -> None:
    profiles = [Profile("a", file="a.gguf", pinned=True)]
    async with bench("a", "b", memory=room_for(1.5), profiles=profiles) as neuron:
        await neuron.admin.load(LoadOrder("a"))
        with pytest.raises(NoRoom, match=r"cpu0 lacks \d+ bytes.*a holds \d+ \(pinned\)"):
            await neuron.admin.load(LoadOrder("b"))


async def test_a_device_that_is_not_here_is_named_with_those_that_are(bench) -> None:
    profiles = [Profile("a", file="a.gguf", devices=[7])]
    async with bench("a", "b", profiles=profiles, devices=2) as neuron:
        with pytest.raises(NoRoom, match="a is to run on 7; this neuron has cpu0, cpu1"):
            await neuron.admin.load(LoadOrder("a"))
        with pytest.raises(NoRoom, match="b is to run on cuda9"):
            await neuron.admin.load(LoadOrder("b", devices=["cuda9"]))


async def test_a_device_that_is_not_here_beside_one_that_is_blocks_no_other_load(bench) -> None:
    """The size on the one that is here has been measured before."""
    async with bench("a", "b", devices=2) as neuron:
        registry = neuron.registry
        registry.measurements.put(registry.measure_key(registry.models["a"].entry, 256, ["cpu0"]), [1000])
        with pytest.raises(NoRoom, match="a is to run on cuda9; this neuron has cpu0, cpu1"):
            await neuron.admin.load(LoadOrder("a", devices=["cpu0", "cuda9"]))
        assert (await neuron.admin.load(LoadOrder("b"))).state == "ready"


async def test_a_load_that_cannot_be_planned_blocks_no_other(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in sizing one model is that model's trouble."""
    async with bench("odd", "b") as neuron:
        sizes = neuron.registry.sizes

        def failing(entry: Entry, context: int, group: Sequence[str]) -> list[int]:
            return [] if entry.id == "odd" else sizes(entry, context, group)

        monkeypatch.setattr(neuron.registry, "sizes", failing)
        with pytest.raises(ModelLoadFailed, match="can't be planned"):
            await neuron.admin.load(LoadOrder("odd"))
        assert (await neuron.admin.load(LoadOrder("b"))).state == "ready"


async def test_an_idle_model_leaves_after_its_time_and_watching_does_not_keep_it(bench) -> None:
    eviction = EvictionConfig(idle_ttl_s=0.5, min_residency_s=0.0)
    async with bench("m", eviction=eviction) as neuron:
        await neuron.ask("m")

        def watched() -> bool:
            neuron.admin.status()
            neuron.neuron.metrics.exposition()
            return neuron.state("m") == "unloaded"

        await until(watched)


async def test_two_models_live_on_two_devices(bench) -> None:
    async with bench("a", "b", devices=2, memory=room_for(1.5)) as neuron:
        await asyncio.gather(neuron.ask("a"), neuron.ask("b"))
        assert neuron.state("a") == neuron.state("b") == "ready"
        assert {line.device for line in neuron.registry.ledger.lines()} == {"cpu0", "cpu1"}


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


async def test_a_bug_on_the_way_of_a_load_ends_it(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever, and the next load may go well."""
    async with bench("m") as neuron:

        def broken(*_: object) -> LoadSpec:
            raise ValueError

        with monkeypatch.context() as patched:
            patched.setattr(neuron.registry, "spec", broken)
            patched.setattr(neuron.registry, "measure_key", lambda *_: "key")
            with pytest.raises(ModelLoadFailed, match="an internal error"):
                await neuron.admin.load(LoadOrder("m"))
        assert neuron.registry.ledger.lines() == []
        assert (await neuron.admin.load(LoadOrder("m"))).state == "ready"


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
