from __future__ import annotations

import pytest

from cortex.serving.periodic import to_next_s


@pytest.mark.parametrize(("now", "expected"), [(12.0, 0.5), (12.25, 0.25), (12.375, 0.125), (12.5, 0.5)])
def test_ticks_fall_on_whole_multiples_of_their_period_whenever_one_asks(now: float, expected: float) -> None:
    assert to_next_s(0.5, now) == expected
