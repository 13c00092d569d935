"""Where models go: the decision tree alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cortex.neuron.models.placement import Evict, Need, Occupant, Place, Refuse, Room, Scene, Wait, decide, expired

NOW = 1000.0


def scene(*occupants: Occupant, rooms: tuple[Room, ...] = (Room("d0", 100),), residency_s: float = 10.0) -> Scene:
    return Scene(rooms, occupants, NOW, residency_s)


def idle(model: str, size: int, used_at: float = 0.0, **facts: bool) -> Occupant:
    return Occupant(model, {"d0": size}, last_used_at=used_at, **facts)


def test_free_room_is_taken() -> None:
    assert decide(Need("m", [{"d0": 60}]), scene(idle("a", 40))) == Place({"d0": 60})


def test_the_first_set_with_room_wins() -> None:
    rooms = (Room("d0", 100), Room("d1", 100))
    assert decide(Need("m", [{"d0": 80}, {"d1": 80}]), scene(idle("a", 40), rooms=rooms)) == Place({"d1": 80})


def test_a_model_that_leaves_is_waited_for_rather_than_another_evicted() -> None:
    decision = decide(Need("m", [{"d0": 60}]), scene(idle("going", 60, leaving=True), idle("stays", 40)))
    assert decision == Wait(["going"])


def test_the_least_recently_used_goes_first() -> None:
    decision = decide(Need("m", [{"d0": 60}]), scene(idle("old", 50, 1.0), idle("new", 50, 2.0)))
    assert decision == Evict(["old", "new"])
    assert decide(Need("m", [{"d0": 50}]), scene(idle("old", 50, 1.0), idle("new", 50, 2.0))) == Evict(["old"])


def test_a_victim_that_is_not_needed_is_spared() -> None:
    decision = decide(Need("m", [{"d0": 70}]), scene(idle("small", 20, 1.0), idle("large", 80, 2.0)))
    assert decision == Evict(["large"])


def test_busy_and_pinned_models_are_never_evicted() -> None:
    need = Need("m", [{"d0": 60}])
    assert decide(need, scene(idle("a", 90, busy=True))) == Wait(["a"])
    assert isinstance(decide(need, scene(idle("a", 90, pinned=True))), Refuse)


def test_a_freshly_loaded_model_in_use_stays_for_its_minimum_residency() -> None:
    fresh = Occupant("a", {"d0": 90}, last_used_at=NOW - 0.5, loaded_at=NOW - 2)
    assert decide(Need("m", [{"d0": 60}]), scene(fresh)) == Wait(["a"], NOW + 0.5)


def test_a_caller_that_decides_for_itself_gets_a_refusal_instead_of_an_eviction() -> None:
    assert isinstance(decide(Need("m", [{"d0": 60}], evict=False), scene(idle("a", 90))), Refuse)


def test_memory_freed_a_moment_ago_is_waited_for_but_not_for_ever() -> None:
    def room(freed_at: float) -> tuple[Room, ...]:
        return (Room("d0", 100, foreign_bytes=80, freed_at=freed_at),)

    need = Need("m", [{"d0": 60}])
    assert isinstance(decide(need, scene(rooms=room(NOW - 1))), Wait)
    assert isinstance(decide(need, scene(rooms=room(NOW - 60))), Refuse)


def test_a_refusal_says_which_device_lacks_how_much_and_who_holds_it() -> None:
    rooms = (Room("d0", 100, foreign_bytes=5),)
    decision = decide(Need("m", [{"d0": 60}]), scene(idle("a", 70, pinned=True), rooms=rooms))
    assert decision == Refuse(
        "no room for m: d0 lacks 35 bytes (needs 60 of a budget of 100, a holds 70 (pinned), other programs hold 5)"
    )


def test_an_unhealthy_device_takes_nothing() -> None:
    decision = decide(Need("m", [{"d0": 1}]), scene(rooms=(Room("d0", 100, healthy=False),)))
    assert decision == Refuse("no room for m: d0 is unhealthy")


def test_time_to_live_spares_the_busy_the_pinned_and_those_without_one() -> None:
    models = [
        (idle("a", 1), 5.0),
        (idle("b", 1, busy=True), 5.0),
        (idle("c", 1, pinned=True), 5.0),
        (idle("d", 1), 0.0),
    ]
    assert expired(models, NOW) == ["a"]


occupants = st.lists(
    st.builds(
        Occupant,
        model=st.integers(0, 10**6).map(str),
        bytes_by_device=st.dictionaries(st.sampled_from(["d0", "d1"]), st.integers(1, 60), min_size=1),
        busy=st.booleans(),
        leaving=st.booleans(),
        pinned=st.booleans(),
        last_used_at=st.floats(0, NOW),
        loaded_at=st.floats(0, NOW),
    ),
    max_size=6,
    unique_by=lambda occupant: occupant.model,
)


@given(occupants, st.integers(1, 120), st.integers(0, 40))
def test_whatever_stands_there_no_decision_overfills_a_device_or_harms_the_protected(
    there: list[Occupant], size: int, foreign: int
) -> None:
    rooms = (Room("d0", 100, foreign), Room("d1", 100))
    need = Need("m", [{"d0": size}, {"d1": size}, {"d0": size // 2, "d1": size - size // 2}])
    decision = decide(need, scene(*there, rooms=rooms))
    gone = decision.models if isinstance(decision, Evict) else []
    assert all(not (o.busy or o.pinned or o.leaving) for o in there if o.model in gone)
    if isinstance(decision, Place):
        for room in rooms:
            held = sum(occupant.bytes_by_device.get(room.device, 0) for occupant in there)
            added = decision.bytes_by_device.get(room.device, 0)
            assert not added or held + added + room.foreign_bytes <= room.budget_bytes
