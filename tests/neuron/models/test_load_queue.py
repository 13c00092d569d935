"""Which load comes next, and what is evicted for it, over fake workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from cortex.config.profiles import Profile
from cortex.config.settings import EvictionConfig
from cortex.errors import ModelLoadFailed, NoRoom
from cortex.neuron.catalog.entry import Entry
from cortex.wire.events import Finished
from cortex.wire.status import LoadOrder
from tests.neuron.conftest import room_for, until


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
        await until(lambda: models["a"].closed)
        assert not models["b"].closed
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
        registry.measurements.put(registry.planner.measure_key(registry.models["a"].entry, 256, ["cpu0"]), [1000])
        with pytest.raises(NoRoom, match="a is to run on cuda9; this neuron has cpu0, cpu1"):
            await neuron.admin.load(LoadOrder("a", devices=["cpu0", "cuda9"]))
        assert (await neuron.admin.load(LoadOrder("b"))).state == "ready"


async def test_a_load_that_cannot_be_planned_blocks_no_other(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in sizing one model is that model's trouble."""
    async with bench("odd", "b") as neuron:
        sizes = neuron.registry.planner.sizes

        def failing(entry: Entry, context: int, group: Sequence[str]) -> list[int]:
            return [] if entry.id == "odd" else sizes(entry, context, group)

        monkeypatch.setattr(neuron.registry.planner, "sizes", failing)
        with pytest.raises(ModelLoadFailed, match="can't be planned"):
            await neuron.admin.load(LoadOrder("odd"))
        assert (await neuron.admin.load(LoadOrder("b"))).state == "ready"


async def test_two_models_live_on_two_devices(bench) -> None:
    async with bench("a", "b", devices=2, memory=room_for(1.5)) as neuron:
        await asyncio.gather(neuron.ask("a"), neuron.ask("b"))
        assert neuron.state("a") == neuron.state("b") == "ready"
        assert {line.device for line in neuron.registry.ledger.lines()} == {"cpu0", "cpu1"}
