"""How many prompt tokens a step may hold, and whether a state is restored or computed again."""

from __future__ import annotations

import math

import pytest

from cortex.engine.scheduling.step_budget import StepBudget, restoring_is_cheaper


def test_alone_a_prompt_gets_a_whole_physical_batch_per_step() -> None:
    assert StepBudget(ubatch=512, stall_s=0.2).budget(0) == 512


def test_beside_running_streams_a_step_takes_about_the_allowed_time() -> None:
    pace = StepBudget(ubatch=512, stall_s=0.2)
    for _ in range(50):
        pace.record(prefill=0, decode=4, seconds=0.05)
        pace.record(prefill=200, decode=4, seconds=0.25)
    assert 100 <= pace.budget(4) <= 160


def test_a_fast_device_gets_its_physical_batch() -> None:
    pace = StepBudget(ubatch=512, stall_s=0.2)
    pace.record(prefill=512, decode=0, seconds=0.01)
    assert pace.budget(4) == 512


def test_idle_cells_may_take_a_fiftieth_of_a_decode_step() -> None:
    pace = StepBudget(ubatch=512, stall_s=0.2, scan_s=1e-6)
    pace.record(prefill=0, decode=8, seconds=0.05)
    assert pace.idle_cells(8) == pytest.approx(0.02 * 0.05 / 8e-6)
    assert pace.idle_cells(0) == StepBudget(ubatch=512, stall_s=0.2).idle_cells(8) == math.inf


def test_a_slow_device_still_moves_on() -> None:
    pace = StepBudget(ubatch=512, stall_s=0.2)
    pace.record(prefill=32, decode=4, seconds=10.0)
    assert pace.budget(4) == 32


@pytest.mark.parametrize(
    ("size", "restore_rate", "tokens", "prefill_rate", "cheaper"),
    [
        (10_000_000, 1e9, 500, 1000.0, True),  # 10 ms against 0.5 s
        (10_000_000, 1e7, 500, 1000.0, False),  # 1 s against 0.5 s
        (10_000_000, 1e9, 500, 100_000.0, False),
        (10_000_000, 0.0, 500, 100_000.0, True),
        (10_000_000, 1.0, 500, 0.0, True),
    ],
)
def test_what_was_measured_says_whether_restoring_is_cheaper(
    size: int, restore_rate: float, tokens: int, prefill_rate: float, cheaper: bool
) -> None:
    assert restoring_is_cheaper(size, restore_rate, tokens, prefill_rate) is cheaper


def test_a_slow_restore_is_measured_again_now_and_then() -> None:
    pace = StepBudget(ubatch=512, stall_s=0.2)
    pace.record(prefill=512, decode=0, seconds=0.1)
    assert pace.worth_restoring(1_000_000, 100)
    pace.record_restore(1_000_000, 10.0)
    assert [pace.worth_restoring(1_000_000, 100) for _ in range(40)].count(True) == 2
    for _ in range(30):
        pace.record_restore(1_000_000, 0.001)
    assert pace.worth_restoring(1_000_000, 100)
