"""Guessing from the text itself, and how much prefill a step may hold."""

from __future__ import annotations

import numpy as np

from cortex.engine.lookup import find_continuation
from cortex.engine.pace import Pace


def _array(*tokens: int) -> np.ndarray:
    return np.array(tokens, dtype=np.int32)


def test_the_latest_earlier_occurrence_is_continued() -> None:
    assert find_continuation(_array(1, 2, 3, 4, 9, 1, 2, 3, 5, 6, 1, 2, 3), 2) == [5, 6]


def test_nothing_is_guessed_where_nothing_repeats() -> None:
    assert find_continuation(_array(1, 2, 3, 4, 5), 4) == []
    assert find_continuation(_array(1, 2), 4) == []


def test_the_last_tokens_are_not_their_own_continuation() -> None:
    assert find_continuation(_array(7, 7, 7, 7), 3) == [7]


def test_alone_a_prompt_gets_a_whole_physical_batch_per_step() -> None:
    assert Pace(ubatch=512, stall_s=0.2).budget(0) == 512


def test_beside_running_streams_a_step_takes_about_the_allowed_time() -> None:
    pace = Pace(ubatch=512, stall_s=0.2)
    for _ in range(50):
        pace.record(prefill=0, decode=4, seconds=0.05)
        pace.record(prefill=200, decode=4, seconds=0.25)
    assert 100 <= pace.budget(4) <= 160


def test_a_fast_device_gets_its_physical_batch() -> None:
    pace = Pace(ubatch=512, stall_s=0.2)
    pace.record(prefill=512, decode=0, seconds=0.01)
    assert pace.budget(4) == 512


def test_a_slow_device_still_moves_on() -> None:
    pace = Pace(ubatch=512, stall_s=0.2)
    pace.record(prefill=32, decode=4, seconds=10.0)
    assert pace.budget(4) == 32
