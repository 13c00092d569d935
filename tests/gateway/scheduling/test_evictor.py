"""Which models may go, and which of them do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.config.settings import EvictionConfig
from cortex.gateway.scheduling.evictor import Candidate, Claim, When, allowed, pick_victims, rank

NOW = 1000.0
LRU = EvictionConfig(min_residency_s=10.0, starvation_s=60.0)
PRIORITY = EvictionConfig(strategy="priority", min_residency_s=10.0, starvation_s=60.0)


def candidate(model: str = "a", **fields: object) -> Candidate:
    given_ = {"held_bytes": {"gpu0": 10}, "loaded_at": 0.0, "used_at": 0.0, "load_s": 5.0, **fields}
    return Candidate(model, **given_)  # type: ignore[arg-type]


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
        ({"settled": False}, {"waited_s": 99}, LRU, When.LATER),
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
    assert allowed(candidate(**fields), asks, rules, NOW) is when


def names(victims: list[Candidate] | None) -> list[str] | None:
    return None if victims is None else [victim.model for victim in victims]


def test_the_least_recently_used_go_until_it_suffices() -> None:
    models = [candidate("new", used_at=9), candidate("old", used_at=1), candidate("mid", used_at=5)]
    picked = pick_victims({"gpu0": 15}, models, lambda c: rank(c, LRU))
    assert names(picked) == ["old", "mid"]


def test_a_victim_that_turns_out_superfluous_is_spared() -> None:
    models = [candidate("small", held_bytes={"gpu0": 3}, used_at=1), candidate("big", used_at=2)]
    assert names(pick_victims({"gpu0": 8}, models, lambda c: rank(c, LRU))) == ["big"]


def test_models_elsewhere_are_left_alone() -> None:
    models = [candidate("there", held_bytes={"gpu1": 50}), candidate("here", used_at=9)]
    assert names(pick_victims({"gpu0": 8}, models, lambda c: rank(c, LRU))) == ["here"]


def test_the_lowest_class_goes_first_under_priority() -> None:
    models = [candidate("cheap", priority=50, used_at=9), candidate("dear", priority=200, used_at=1)]
    assert names(pick_victims({"gpu0": 5}, models, lambda c: rank(c, PRIORITY))) == ["cheap"]


def test_what_cannot_suffice_is_not_begun() -> None:
    assert pick_victims({"gpu0": 99}, [candidate()], lambda c: rank(c, LRU)) is None


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 9)), max_size=6),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_victims_suffice_and_none_is_superfluous(held: list[tuple[int, int, int]], need0: int, need1: int) -> None:
    models = [
        candidate(f"m{i}", held_bytes={"gpu0": zero, "gpu1": one}, used_at=float(at))
        for i, (zero, one, at) in enumerate(held)
    ]
    need = {"gpu0": need0, "gpu1": need1}
    picked = pick_victims(need, models, lambda c: rank(c, LRU))

    def freed(chosen: list[Candidate], device: str) -> int:
        return sum(model.held_bytes[device] for model in chosen)

    possible = all(freed(models, device) >= size for device, size in need.items())
    assert (picked is not None) == possible
    for victim in picked or []:
        rest = [other for other in picked or [] if other is not victim]
        assert any(freed(rest, device) < size for device, size in need.items())
