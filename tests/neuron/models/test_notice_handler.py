"""What the death of a worker means for its models, over fake workers."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from cortex.config.profiles import Profile
from cortex.errors import ModelLoadFailed
from cortex.wire.events import Failed, Finished
from cortex.wire.status import LoadOrder
from tests.neuron.conftest import until


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


async def test_a_gateways_automatic_loads_do_not_revive_a_model_that_keeps_dying(bench) -> None:
    """Only an operator's does: else `failed` never held behind a gateway."""
    async with bench("die") as neuron:

        async def order(*, automatic: bool) -> None:
            revision = neuron.registry.revision
            with pytest.raises(ModelLoadFailed):
                await neuron.admin.load(LoadOrder("die", revision=revision, automatic=automatic))

        for _ in range(5):
            await order(automatic=True)
        (worker,) = neuron.registry.pool.all()
        assert worker.restarts == 3
        assert neuron.state("die") == "failed"
        await order(automatic=False)
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
