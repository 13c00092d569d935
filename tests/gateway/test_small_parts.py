"""Breaker, catalogue, loop: one promise each."""

from __future__ import annotations

import pytest

from cortex.config.profiles import Profile, Profiles
from cortex.config.settings import NeuronEntry
from cortex.errors import BadRequest, ModelNotFound
from cortex.gateway.neurons.fleet import Fleet
from cortex.gateway.scheduling.breaker import COOLDOWN_S, LONGEST_COOLDOWN_S, Breaker
from cortex.gateway.scheduling.catalogue import Catalogue
from cortex.gateway.scheduling.effects import PollNeuron
from cortex.gateway.scheduling.loop import Loop
from cortex.gateway.scheduling.scheduler import Scheduler
from tests.fakes import FakeModel, FakeNeuron, ManualClock
from tests.gateway.scheduling.world import models, policy


def test_a_breaker_opens_at_the_third_failure_in_a_row() -> None:
    breaker = Breaker().failed(0.0).failed(0.0)
    assert breaker.state(0.0) == "closed"
    assert breaker.failed(0.0).state(0.0) == "open"
    assert not breaker.failed(0.0).allows(0.0)


def test_a_half_open_breaker_lets_one_probe_through_and_cools_longer_after_each_failure() -> None:
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


def test_a_probe_without_a_verdict_makes_way_for_another() -> None:
    breaker = Breaker().failed(0.0).failed(0.0).failed(0.0).sent(COOLDOWN_S)
    assert breaker.unprobed().allows(COOLDOWN_S)


def fleet(*fakes: FakeNeuron) -> Fleet:
    known = Fleet.of([NeuronEntry(name=fake.name, endpoint="http://x/") for fake in fakes])
    for fake in fakes:
        known = known.with_(known.neurons[fake.name].seen(fake.status(), 0.0))
    return known


def catalogue(known: Fleet, default: str | None = None, *profiles: Profile) -> Catalogue:
    return Catalogue(lambda: known, Profiles(models=list(profiles)), default)


def test_names_lead_to_models() -> None:
    known = fleet(FakeNeuron("n", models("org/model", "b")))
    names = catalogue(known, None, Profile(id="b", aliases=["default", "fast"]))
    assert names.resolve("org/model") == "org/model"
    assert names.resolve("fast") == "b"
    assert names.resolve("") == "b"
    assert names.resolve("claude-opus-4-5") == "b"
    with pytest.raises(ModelNotFound, match="did you mean 'org/model'"):
        names.resolve("org/modle")


def test_nothing_named_without_a_default_is_the_callers_mistake() -> None:
    with pytest.raises(BadRequest, match="there are a, b"):
        catalogue(fleet(FakeNeuron("n", models("a", "b")))).resolve("")
    with pytest.raises(ModelNotFound):
        catalogue(fleet(FakeNeuron("n", models("a", "b")))).resolve("claude-x")


def test_the_only_model_is_the_default_and_a_configured_one_beats_it() -> None:
    assert catalogue(fleet(FakeNeuron("n", models("a")))).resolve("") == "a"
    assert catalogue(fleet(FakeNeuron("n", models("a", "b"))), "b").resolve("") == "b"


def test_the_most_alive_copy_speaks_for_a_model_and_all_homes_are_named() -> None:
    m, n = FakeNeuron("m", [FakeModel("a")]), FakeNeuron("n", [FakeModel("a")])
    n.models["a"].state, n.models["a"].devices = "ready", ["cpu0"]
    ((status, where),) = catalogue(fleet(m, n)).models()
    assert (status.state, where) == ("ready", ["n"])


def test_models_of_a_lost_neuron_stay_known_but_are_nowhere() -> None:
    fake = FakeNeuron("n", models("a"))
    fake.models["a"].state, fake.models["a"].devices = "ready", ["cpu0"]
    known = fleet(fake)
    lost = known.with_(known.neurons["n"].lost("gone", 1.0))
    ((_, where),) = catalogue(lost).models()
    assert where == []


def test_events_posted_from_within_an_effect_wait_their_turn() -> None:
    """One event at a time, to its end: the state is never changed under a decision."""
    order: list[str] = []
    scheduler = Scheduler(policy(), [])

    def perform(effect: object) -> None:
        order.append("effect")
        if len(order) < 4:
            loop.post(lambda s, now: order.append("nested") or [])  # type: ignore[func-returns-value]
            order.append("posted")

    loop = Loop(scheduler, perform, ManualClock())
    loop.post(lambda s, now: [PollNeuron("n"), PollNeuron("n")])
    assert order == ["effect", "posted", "effect", "posted", "nested", "nested"]
