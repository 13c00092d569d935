"""Which models a name leads to."""

from __future__ import annotations

import pytest

from cortex.config.profiles import Profile, Profiles
from cortex.config.settings import NeuronEntry
from cortex.errors import BadRequest, ModelNotFound
from cortex.gateway.neurons.fleet import Fleet
from cortex.gateway.scheduling.catalogue import Catalogue
from tests.fake_neuron import FakeModel, FakeNeuron
from tests.gateway.scheduling.world import models


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
