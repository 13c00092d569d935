"""When models may go."""

from __future__ import annotations

import pytest

from cortex.config.settings import EvictionConfig
from cortex.placement.facts import Claim, Resident
from cortex.placement.residency import When, evictable_at, expired, starved, when_evictable

NOW = 1000.0
LRU = EvictionConfig(min_residency_s=10.0, starvation_s=60.0)
PRIORITY = EvictionConfig(strategy="priority", min_residency_s=10.0, starvation_s=60.0)


def resident(model: str = "a", **fields: object) -> Resident:
    return Resident(model, {"gpu0": 10}, **{"load_s": 5.0, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "claim", "rules", "when"),
    [
        ({}, {}, LRU, When.NOW),
        ({"pinned": True}, {"waited_s": 9e9}, LRU, When.NEVER),
        ({"busy": True, "loaded_at": NOW - 5}, {"waited_s": 50}, LRU, When.LATER),
        ({"busy": True}, {"waited_s": 1}, LRU, When.LATER),
        ({"busy": True}, {"waited_s": 11}, LRU, When.CLOSE),
        ({"wanted": True}, {"waited_s": 11}, LRU, When.NOW),
        ({"wanted": True}, {"waited_s": 1}, LRU, When.LATER),
        ({"loading": True}, {"waited_s": 99}, LRU, When.LATER),
        ({"leaving": True}, {"waited_s": 99}, LRU, When.LATER),
        ({"used_at": NOW - 4}, {}, LRU, When.LATER),
        ({"used_at": NOW - 6}, {}, LRU, When.NOW),
        ({"loaded_at": NOW - 4}, {}, LRU, When.LATER),
        ({"loaded_at": NOW - 6}, {}, LRU, When.NOW),
        ({"loaded_at": NOW - 9, "load_s": None}, {}, LRU, When.LATER),
        ({"priority": 300}, {"priority": 100}, LRU, When.NOW),
        ({"priority": 300}, {"priority": 100}, PRIORITY, When.NEVER),
        ({"priority": 300}, {"priority": 300}, PRIORITY, When.NOW),
        ({"priority": 100}, {"priority": 300}, PRIORITY, When.NOW),
        ({"busy": True, "loaded_at": NOW - 61, "load_s": 500.0}, {"waited_s": 61}, LRU, When.CLOSE),
    ],
)
def test_when_a_model_may_go(
    fields: dict[str, object], claim: dict[str, float], rules: EvictionConfig, when: When
) -> None:
    asks = Claim("b", int(claim.get("priority", 100)), claim.get("waited_s", 0.0))
    assert when_evictable(resident(**fields), asks, rules, NOW) is when


def test_the_time_that_is_told_is_when_it_may_go() -> None:
    used = resident(used_at=NOW - 4)
    assert evictable_at(used, Claim("b"), LRU, NOW) == NOW + 1
    assert when_evictable(used, Claim("b"), LRU, NOW + 1) is When.NOW
    busy = resident(loaded_at=NOW - 15, busy=True)
    assert evictable_at(busy, Claim("b", waited_s=7), LRU, NOW) == NOW + 5  # its turn: four loads of 5 s
    assert evictable_at(busy, Claim("b", waited_s=2), LRU, NOW) == NOW + 8  # the claim has to wait 10 s


def test_a_model_that_has_just_drained_is_no_better_off_than_one_in_use() -> None:
    """One client that asked again after each answer kept its model for ever: idle for less than the grace, it was open
    again, and busy."""
    assert when_evictable(resident(used_at=NOW), Claim("b", waited_s=1), LRU, NOW) is When.LATER
    assert when_evictable(resident(used_at=NOW), Claim("b", waited_s=11), LRU, NOW) is When.NOW
    young = resident(loaded_at=NOW - 5, used_at=NOW)
    assert when_evictable(young, Claim("b", waited_s=11), LRU, NOW) is When.LATER


def test_a_model_that_loads_in_no_time_has_a_turn_all_the_same() -> None:
    """Else it could be evicted before it has served those that it was loaded for."""
    none = EvictionConfig(min_residency_s=0.0)
    just = resident(loaded_at=NOW, load_s=0.0, wanted=True)
    assert when_evictable(just, Claim("b"), none, NOW) is When.LATER
    assert when_evictable(just, Claim("b"), none, NOW + 0.5) is When.NOW


def test_a_claim_starves_after_its_time() -> None:
    assert not starved(Claim("b", waited_s=60.0), LRU)
    assert starved(Claim("b", waited_s=60.1), LRU)


@pytest.mark.parametrize(
    ("fields", "ttl_s", "gone"),
    [
        ({}, 5.0, True),
        ({"used_at": NOW - 4}, 5.0, False),
        ({"busy": True}, 5.0, False),
        ({"wanted": True}, 5.0, False),
        ({"pinned": True}, 5.0, False),
        ({"loading": True}, 5.0, False),
        ({"leaving": True}, 5.0, False),
        ({}, 0.0, False),
    ],
)
def test_time_to_live_spares_the_busy_the_pinned_and_those_without_one(
    fields: dict[str, object], ttl_s: float, gone: bool
) -> None:
    assert expired(resident(**fields), ttl_s, NOW) is gone
