"""How often neurons are polled."""

from __future__ import annotations

import math

import pytest

from cortex.gateway.neurons.poller import next_interval, silence_left_s


@pytest.mark.parametrize(
    ("last", "busy", "swapping", "heard", "expected"),
    [(0.0, False, False, False, 1.5), (10.0, False, False, False, 15.0), (15.0, False, False, True, 15.0),
     (15.0, True, False, False, 1.0), (15.0, True, True, False, 0.25), (15.0, False, True, False, 0.25),
     (15.0, True, False, True, 3.0), (15.0, False, True, True, 3.0)],
)  # fmt: skip
def test_polls_are_frequent_while_something_happens_that_nobody_pushes(
    last: float, busy: bool, swapping: bool, heard: bool, expected: float
) -> None:
    assert next_interval(last, 1.0, 15.0, busy=busy, swapping=swapping, heard=heard) == expected


def test_a_neuron_that_has_spoken_is_not_asked_soon() -> None:
    assert silence_left_s(10.0, -math.inf, 3.0, 12.0) == 1.0
    assert silence_left_s(10.0, 11.5, 3.0, 12.0) == 2.5
    assert silence_left_s(10.0, 11.5, 3.0, 14.5) == 0.0
