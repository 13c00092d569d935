"""When a neuron's breaker opens, and how it closes again."""

from __future__ import annotations

from cortex.gateway.scheduling.breaker import COOLDOWN_S, LONGEST_COOLDOWN_S, Breaker


def test_a_breaker_opens_at_the_third_failure_in_a_row() -> None:
    breaker = Breaker().failed(0.0).failed(0.0)
    assert breaker.state(0.0) == "closed"
    assert breaker.failed(0.0).state(0.0) == "open"
    assert not breaker.failed(0.0).allows(0.0)


def test_a_half_open_breaker_lets_one_trial_through_and_cools_longer_after_each_failure() -> None:
    breaker = Breaker().failed(0.0).failed(0.0).failed(0.0)
    now = COOLDOWN_S
    assert breaker.state(now) == "half_open"
    assert breaker.allows(now)
    assert not breaker.sent(now).allows(now)
    again = breaker.sent(now).failed(now)
    assert again.state(now + COOLDOWN_S) == "open"
    assert again.state(now + 2 * COOLDOWN_S) == "half_open"
    for _ in range(10):
        now += LONGEST_COOLDOWN_S
        again = again.failed(now)
    assert again.cooldown_s == LONGEST_COOLDOWN_S


def test_a_trial_that_decides_nothing_makes_way_for_another() -> None:
    breaker = Breaker().failed(0.0).failed(0.0).failed(0.0).sent(COOLDOWN_S)
    assert breaker.undecided().allows(COOLDOWN_S)
