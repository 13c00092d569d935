"""Starting, stopping and signalling a worker, over fake workers."""

from __future__ import annotations

import asyncio
import signal
import subprocess

import pytest

from cortex.wire.events import Finished
from cortex.wire.status import LoadOrder, UnloadOrder
from tests.neuron.conftest import until


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
