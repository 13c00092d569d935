"""Where models go: the decision tree alone."""

from __future__ import annotations

from collections.abc import Sequence

from cortex.config.settings import EvictionConfig
from cortex.placement.decision import Decision, Evict, Place, Refuse, Wait, decide
from cortex.placement.facts import Claim, DeviceMemory, DeviceSet, NeuronMemory, Resident
from cortex.placement.reasons import byte_by_byte

NOW = 1000.0
RULES = EvictionConfig(min_residency_s=10.0)
ONE = (DeviceMemory("d0", 100),)
TWO = (DeviceMemory("d0", 100), DeviceMemory("d1", 100))


def decided(
    sets: Sequence[DeviceSet],
    *residents: Resident,
    devices: Sequence[DeviceMemory] = ONE,
    claim: Claim = Claim("m"),  # noqa: B008 - a frozen value
) -> Decision:
    return decide(claim, sets, NeuronMemory(devices, residents), RULES, NOW)


def idle(model: str, size: int, used_at: float = 0.0, **facts: bool) -> Resident:
    return Resident(model, {"d0": size}, used_at=used_at, **facts)


def test_free_room_is_taken() -> None:
    assert decided([{"d0": 50}], idle("a", 40)) == Place({"d0": 50}, spare_bytes=10)


def test_the_first_set_with_room_wins() -> None:
    assert decided([{"d0": 80}, {"d1": 80}], idle("a", 40), devices=TWO) == Place({"d1": 80}, spare_bytes=20)


def test_what_was_promised_is_not_promised_again() -> None:
    assert isinstance(decided([{"d0": 60}], devices=(DeviceMemory("d0", 100, promised_bytes=41),)), Refuse)


def test_a_model_of_unknown_size_goes_where_anything_does() -> None:
    crowded = (DeviceMemory("d0", 100, foreign_bytes=120),)
    assert isinstance(decided([{"d0": 0}], devices=crowded), Place)


def test_a_model_that_leaves_is_waited_for_rather_than_another_evicted() -> None:
    decision = decided([{"d0": 60}], idle("going", 60, leaving=True), idle("stays", 40))
    assert decision == Wait("waits for going to leave", ("going",))


def test_what_leaves_anyway_counts_as_gone_when_more_has_to() -> None:
    decision = decided([{"d0": 90}], idle("going", 50, leaving=True), idle("old", 20, 1.0), idle("new", 20, 2.0))
    assert isinstance(decision, Evict)
    assert decision.models == ("old", "new")
    decision = decided([{"d0": 80}], idle("going", 50, leaving=True), idle("old", 20, 1.0), idle("new", 20, 2.0))
    assert isinstance(decision, Evict)
    assert decision.models == ("old",)


def test_the_least_recently_used_goes_first() -> None:
    old, new = idle("old", 50, 1.0), idle("new", 50, 2.0)
    assert decided([{"d0": 60}], old, new) == Evict({"d0": 60}, ("old", "new"))
    assert decided([{"d0": 50}], old, new) == Evict({"d0": 50}, ("old",))


def test_a_victim_that_is_not_needed_is_spared() -> None:
    decision = decided([{"d0": 70}], idle("small", 20, 1.0), idle("large", 80, 2.0))
    assert decision == Evict({"d0": 70}, ("large",))


def test_memory_beyond_the_budget_has_to_be_made_up_for() -> None:
    """Others hold more than cortex left them: what is evicted pays for that first."""
    overdrawn = (DeviceMemory("d0", 100, foreign_bytes=95),)
    decision = decided([{"d0": 5}], idle("old", 8, 1.0), idle("new", 8, 2.0), devices=overdrawn)
    assert decision == Evict({"d0": 5}, ("old", "new"))


def test_busy_and_pinned_models_are_never_evicted() -> None:
    waiting = decided([{"d0": 60}], idle("a", 90, busy=True))
    assert isinstance(waiting, Wait)
    assert (waiting.models, waiting.close) == (("a",), ())
    assert isinstance(decided([{"d0": 60}], idle("a", 90, pinned=True)), Refuse)


def test_a_model_that_loads_is_waited_for() -> None:
    waiting = decided([{"d0": 60}], idle("a", 90, loading=True))
    assert waiting == Wait("waits for a", ("a",))


def test_one_that_has_had_its_turn_is_closed_rather_than_one_waited_for_that_loads() -> None:
    busy, loading = Resident("busy", {"d0": 50}, used_at=NOW, busy=True), idle("loading", 50, loading=True)
    waiting = decided([{"d0": 50}], busy, loading, claim=Claim("m", waited_s=11.0))
    assert isinstance(waiting, Wait)
    assert waiting.close == ("busy",)


def test_a_busy_model_that_has_had_its_turn_is_closed() -> None:
    waiting = decided([{"d0": 60}], idle("a", 90, busy=True), claim=Claim("m", waited_s=11.0))
    assert isinstance(waiting, Wait)
    assert waiting.close == ("a",)


def test_only_those_in_the_way_are_closed() -> None:
    """The neuron closed every model that wasn't pinned, on whatever device."""
    there = idle("a", 90, busy=True)
    elsewhere = Resident("b", {"d1": 90}, busy=True)
    waiting = decided([{"d0": 60}], there, elsewhere, devices=TWO, claim=Claim("m", waited_s=99.0))
    assert isinstance(waiting, Wait)
    assert waiting.close == ("a",)


def test_nobody_is_closed_while_another_in_the_way_has_its_turn() -> None:
    ripe, fresh = idle("ripe", 50, busy=True), Resident("fresh", {"d0": 50}, loaded_at=NOW - 1, used_at=NOW, busy=True)
    waiting = decided([{"d0": 80}], ripe, fresh, claim=Claim("m", waited_s=20.0))
    assert waiting == Wait("waits for ripe, fresh", ("ripe", "fresh"), (), NOW + 9.0)


def test_a_freshly_loaded_model_in_use_stays_for_its_minimum_residency() -> None:
    fresh = Resident("a", {"d0": 90}, used_at=NOW - 0.5, loaded_at=NOW - 2, load_s=1.0)
    assert decided([{"d0": 60}], fresh) == Wait("waits for a", ("a",), (), NOW + 0.5)


def test_a_caller_that_decides_for_itself_gets_a_refusal_instead_of_an_eviction() -> None:
    assert isinstance(decided([{"d0": 60}], idle("a", 90), claim=Claim("m", may_evict=False)), Refuse)


def test_memory_freed_a_moment_ago_is_waited_for_but_not_for_ever() -> None:
    def after(seconds: float) -> Decision:
        device = DeviceMemory("d0", 100, foreign_bytes=80, freed_at=NOW - seconds)
        return decided([{"d0": 60}], devices=(device,))

    assert isinstance(after(1), Wait)
    assert isinstance(after(60), Refuse)


def test_memory_freed_a_moment_ago_is_waited_for_beside_a_model_that_leaves() -> None:
    """Rather than a third model evicted."""
    device = DeviceMemory("d0", 100, foreign_bytes=40, freed_at=NOW - 1)
    waiting = decided([{"d0": 60}], idle("going", 20, leaving=True), idle("stays", 40), devices=(device,))
    assert isinstance(waiting, Wait)
    assert waiting.models == ("going",)


def test_a_refusal_says_which_device_lacks_how_much_and_who_holds_it() -> None:
    memory = NeuronMemory((DeviceMemory("d0", 100, foreign_bytes=5),), [idle("a", 70, pinned=True)])
    sets = [{"d0": 60}]
    refused = decide(Claim("m"), sets, memory, RULES, NOW)
    assert refused == Refuse("needs 0 MiB, and a is pinned", permanent=True)
    assert byte_by_byte(Claim("m"), sets, memory) == (
        "no room for m: d0 lacks 35 bytes (needs 60 of a budget of 100, a holds 70 (pinned), other programs hold 5)"
    )


def test_an_unhealthy_device_takes_nothing() -> None:
    broken = (DeviceMemory("d0", 100, healthy=False),)
    assert isinstance(decided([{"d0": 1}], devices=broken), Refuse)
    assert byte_by_byte(Claim("m"), [{"d0": 1}], NeuronMemory(broken)) == "no room for m: d0 is unhealthy"


def test_a_model_for_more_devices_than_there_are_is_refused_for_good() -> None:
    refused = decided([])
    assert isinstance(refused, Refuse)
    assert refused.permanent
