"""Which neuron takes a model, and what operators read of the choice."""

from __future__ import annotations

from cortex.placement.decision import Evict, Place, Refuse, Wait
from cortex.placement.plan import Assessment, Present, choose, placement_plan
from cortex.wire.fleet import DevicePlan

FULL = Assessment("full", Evict({"gpu0": 20}, ("x",), cost_s=1.0), (DevicePlan("gpu0", 20, 4, 24),))
TIGHT = Assessment("tight", Place({"gpu0": 20}, spare_bytes=4))
ROOMY = Assessment("roomy", Place({"gpu0": 20}, spare_bytes=60))
SMALL = Assessment("small", Refuse("needs 1 device(s) with 20 MiB each", permanent=True))
BUSY = Assessment("busy", Wait("waits for x", ("x",)))


def test_free_memory_beats_eviction_and_the_most_of_it_wins() -> None:
    assert choose([FULL, TIGHT, ROOMY]) is ROOMY


def test_the_cheapest_eviction_is_chosen_and_nobody_where_nobody_can() -> None:
    dear = Assessment("dear", Evict({"gpu0": 20}, ("y",), cost_s=9.0))
    assert choose([dear, FULL, BUSY]) is FULL
    assert choose([SMALL, BUSY]) is None


def test_the_plan_for_people_explains_every_neuron() -> None:
    plan = placement_plan("m", [FULL, SMALL])
    assert plan.summary == "m would be loaded on full after evicting x"
    assert [(neuron.neuron, neuron.chosen) for neuron in plan.neurons] == [("full", True), ("small", False)]
    assert plan.neurons[0].devices[0].needed_bytes == 20


def test_every_kind_of_assessment_has_its_word_and_its_reason() -> None:
    there = Assessment("there", Present("ready"))
    soon = Assessment("soon", Present("loading"))
    plan = placement_plan("m", [there, soon, TIGHT, FULL, BUSY, SMALL])
    assert [(each.verdict, each.reason) for each in plan.neurons] == [
        ("loaded", "already ready"),
        ("loading", "already loading"),
        ("fits", "fits in free memory"),
        ("fits_by_evicting", "fits after evicting x"),
        ("busy", "waits for x"),
        ("refused", "needs 1 device(s) with 20 MiB each"),
    ]
    assert plan.summary == "m is on there, soon"
    assert placement_plan("m", [BUSY, SMALL]).summary == "m would wait"
    assert placement_plan("m", [SMALL]).summary == "m can't be loaded now"
