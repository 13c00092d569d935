"""Which models go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cortex.config.settings import EvictionConfig
from cortex.placement.facts import Resident
from cortex.placement.victims import cheapest_set, pick_victims

LRU = EvictionConfig()
PRIORITY = EvictionConfig(strategy="priority")


def candidate(model: str = "a", **fields: object) -> Resident:
    return Resident(model, **{"bytes_by_device": {"gpu0": 10}, "load_s": 5.0, **fields})  # type: ignore[arg-type]


def names(victims: list[Resident] | None) -> list[str] | None:
    return None if victims is None else [victim.model for victim in victims]


def test_the_least_recently_used_go_until_it_suffices() -> None:
    models = [candidate("new", used_at=9), candidate("old", used_at=1), candidate("mid", used_at=5)]
    picked = pick_victims({"gpu0": 15}, models, LRU)
    assert names(picked) == ["old", "mid"]


def test_a_victim_that_turns_out_superfluous_is_spared() -> None:
    models = [candidate("small", bytes_by_device={"gpu0": 3}, used_at=1), candidate("big", used_at=2)]
    assert names(pick_victims({"gpu0": 8}, models, LRU)) == ["big"]


def test_models_elsewhere_are_left_alone() -> None:
    models = [candidate("there", bytes_by_device={"gpu1": 50}), candidate("here", used_at=9)]
    assert names(pick_victims({"gpu0": 8}, models, LRU)) == ["here"]


def test_the_lowest_class_goes_first_under_priority() -> None:
    models = [candidate("cheap", priority=50, used_at=9), candidate("dear", priority=200, used_at=1)]
    assert names(pick_victims({"gpu0": 5}, models, PRIORITY)) == ["cheap"]


def test_what_cannot_suffice_is_not_begun() -> None:
    assert pick_victims({"gpu0": 99}, [candidate()], LRU) is None


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 9)), max_size=6),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_victims_suffice_and_none_is_superfluous(held: list[tuple[int, int, int]], need0: int, need1: int) -> None:
    models = [
        candidate(f"m{i}", bytes_by_device={"gpu0": zero, "gpu1": one}, used_at=float(at))
        for i, (zero, one, at) in enumerate(held)
    ]
    need = {"gpu0": need0, "gpu1": need1}
    picked = pick_victims(need, models, LRU)

    def freed(chosen: list[Resident], device: str) -> int:
        return sum(model.bytes_by_device[device] for model in chosen)

    possible = all(freed(models, device) >= size for device, size in need.items())
    assert (picked is not None) == possible
    for victim in picked or []:
        rest = [other for other in picked or [] if other is not victim]
        assert any(freed(rest, device) < size for device, size in need.items())


def test_the_set_whose_victims_are_missed_least_is_cleared() -> None:
    hot, cold = candidate("hot", used_at=99.0), candidate("cold", bytes_by_device={"gpu1": 10}, used_at=1.0)
    found = cheapest_set([{"gpu0": 10}, {"gpu1": 10}], {"gpu0": 0, "gpu1": 0}, [hot, cold], LRU)
    assert found == ({"gpu1": 10}, [cold])


def test_of_equal_sets_the_first_is_cleared_and_of_none_none() -> None:
    both = candidate(bytes_by_device={"gpu0": 10, "gpu1": 10})
    free = {"gpu0": 0, "gpu1": 0}
    assert cheapest_set([{"gpu0": 5}, {"gpu1": 5}], free, [both], LRU) == ({"gpu0": 5}, [both])
    assert cheapest_set([{"gpu0": 50}], free, [both], LRU) is None
