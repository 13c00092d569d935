"""Loads that fail, over fake workers."""

from __future__ import annotations

import pytest

from cortex.config.profiles import Profile
from cortex.errors import ModelLoadFailed
from cortex.wire.events import Failed, Finished
from cortex.wire.status import LoadOrder
from cortex.wire.worker import LoadSpec


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


async def test_a_worker_that_cannot_be_started_fails_the_load(bench) -> None:
    """An upgrade may have moved the program away, the host may be out of processes."""
    async with bench("m") as neuron:
        neuron.registry.pool.command = lambda _name, _threads: lambda _fd: ["/nowhere/python"]
        with pytest.raises(ModelLoadFailed, match=r"can't be started: .*/nowhere/python"):
            await neuron.admin.load(LoadOrder("m"))
        assert neuron.state("m") == "failed"
        assert neuron.registry.ledger.lines() == []


async def test_a_bug_on_the_way_of_a_load_ends_it(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever, and the next load may go well."""
    async with bench("m") as neuron:

        def broken(*_: object) -> LoadSpec:
            raise ValueError

        with monkeypatch.context() as patched:
            patched.setattr(neuron.registry.planner, "spec", broken)
            patched.setattr(neuron.registry.planner, "measure_key", lambda *_: "key")
            with pytest.raises(ModelLoadFailed, match="an internal error"):
                await neuron.admin.load(LoadOrder("m"))
        assert neuron.registry.ledger.lines() == []
        assert (await neuron.admin.load(LoadOrder("m"))).state == "ready"
