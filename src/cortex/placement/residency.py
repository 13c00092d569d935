"""When a resident may leave its devices. Pure.

A pinned model never leaves, a busy one never at once. A model that has just been used is kept for about as long as its
reload would take (its grace): whoever wants its memory waits at most twice as long as without that, and the pause
between two requests of one client doesn't count as idleness. A model in use must give way to a waiting one only after
a turn worth several loads, so that a bounded share of the time goes into swapping, and no waiter starves.
"""

from __future__ import annotations

import math
from enum import Enum

from cortex.config.settings import EvictionConfig
from cortex.placement.facts import Claim, Resident

__all__ = ["When", "evictable_at", "expired", "starved", "when_evictable"]

_LOADS_PER_TURN = 4.0
"""At most a fifth of the time then goes into swapping between two models that are both in demand."""
_PAUSE_S = 0.5
"""Clients that ask one thing after the other leave such gaps. A model that loads faster than that would be swapped out
in every one of them: `CORTEX_STORM=2000 pytest tests/e2e/test_fleet_storm.py` took 367 loads instead of about 150
(2 cores, 23 November 2026). It is also the shortest turn: with one of no length, a model could be evicted before it has
served anybody."""


class When(Enum):
    """When a resident may be evicted for a claim."""

    NOW = "now"
    CLOSE = "close"
    """It has had its turn: give it no new requests, and it may be evicted as soon as it is idle."""
    LATER = "later"
    NEVER = "never"


def when_evictable(resident: Resident, claim: Claim, rules: EvictionConfig, now: float) -> When:
    """1. Protected from this claim: never. 2. Its time hasn't come: later. 3. In use: it is closed first. 4. Now."""
    if resident.pinned or (rules.strategy == "priority" and resident.priority > claim.priority):  # 1
        return When.NEVER
    if evictable_at(resident, claim, rules, now) > now:  # 2
        return When.LATER
    return When.CLOSE if resident.busy else When.NOW  # 3, 4


def evictable_at(resident: Resident, claim: Claim, rules: EvictionConfig, now: float) -> float:
    """The time from which an unprotected resident may be evicted (or, while it is busy, closed) for `claim`, as far as
    only time is missing.

    1. Coming or going: infinity, its load or unload has to end first. 2. In use: after its turn, when the claim has
    waited long enough. 3. Idle: at the end of its grace, but no later than in use. Else a client that always pauses for
    less than the grace would keep its model for ever: closed, the model drains, is idle, and open again.
    """
    if resident.loading or resident.leaving:  # 1
        return math.inf
    patience_s = min(rules.min_residency_s, rules.starvation_s)
    in_use_at = max(resident.loaded_at + _turn_s(resident, rules), now + max(patience_s - claim.waited_s, 0.0))
    if resident.busy or resident.wanted:  # 2
        return in_use_at
    return min(max(resident.used_at, resident.loaded_at) + _grace_s(resident, rules), in_use_at)  # 3


def starved(claim: Claim, rules: EvictionConfig) -> bool:
    """Whether the claim has waited so long that no younger one may take memory before it."""
    return claim.waited_s > rules.starvation_s


def expired(resident: Resident, ttl_s: float, now: float) -> bool:
    """Whether nobody has used the resident for its time to live. `ttl_s` 0 = it has none."""
    in_use = resident.busy or resident.wanted or resident.loading or resident.leaving
    return ttl_s > 0 and not in_use and not resident.pinned and now - resident.used_at >= ttl_s


def _grace_s(resident: Resident, rules: EvictionConfig) -> float:
    load_s = rules.min_residency_s if resident.load_s is None else max(resident.load_s, _PAUSE_S)
    return min(rules.min_residency_s, load_s)


def _turn_s(resident: Resident, rules: EvictionConfig) -> float:
    loads_s = _LOADS_PER_TURN * (resident.load_s or 0.0)
    return min(rules.starvation_s, max(rules.min_residency_s, loads_s, _PAUSE_S))
