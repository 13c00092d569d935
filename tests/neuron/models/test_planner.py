"""Dry runs before a load, over fake workers."""

from __future__ import annotations

import pytest

from cortex.neuron.memory.dry_run import ReportFailed
from cortex.wire.reports import MemoryPlan
from cortex.wire.status import LoadOrder, UnloadOrder
from cortex.wire.worker import LoadSpec
from tests.neuron.conftest import until

MIB = 1024 * 1024


async def test_a_dry_run_refines_the_estimate_of_a_large_model_before_its_first_load(bench) -> None:
    async with bench("held-m", dry_run_from=0) as neuron:
        asked: list[LoadSpec] = []

        async def plan(spec: LoadSpec, environment: object) -> MemoryPlan:
            asked.append(spec)
            return MemoryPlan({"CPU": 7 * MIB}, cache=5 * MIB, output=3 * MIB)

        neuron.registry.planner.run_memory_plan = plan
        await neuron.admin.load(LoadOrder("held-m", wait=False))
        await until(lambda: neuron.state("held-m") == "loading" and neuron.registry.ledger.lines())
        (line,) = neuron.registry.ledger.lines()
        weights = neuron.registry.models["held-m"].entry.header.tensors
        assert line.bytes == pytest.approx(15 * MIB + sum(tensor.bytes for tensor in weights), abs=64)
        neuron.let_load("held-m")
        await neuron.admin.load(LoadOrder("held-m"))
        await neuron.admin.unload(UnloadOrder("held-m"))
        await neuron.admin.load(LoadOrder("held-m"))
        assert len(asked) == 1


async def test_without_an_answer_from_the_dry_run_the_estimate_stands(bench, caplog: pytest.LogCaptureFixture) -> None:
    async with bench("m", dry_run_from=0) as neuron:

        async def plan(spec: LoadSpec, environment: object) -> MemoryPlan:
            raise ReportFailed("exit code -6: GGML_ASSERT")

        neuron.registry.planner.run_memory_plan = plan
        assert (await neuron.admin.load(LoadOrder("m"))).state == "ready"
        assert "dry run failed, the estimate stands" in caplog.text


@pytest.mark.parametrize("threshold", ["2GiB", "never"])
async def test_a_small_model_is_not_worth_a_dry_run(bench, threshold: str) -> None:
    async with bench("m", dry_run_from=threshold) as neuron:
        await neuron.admin.load(LoadOrder("m"))
        assert neuron.registry.planner.dry_runs == {}
