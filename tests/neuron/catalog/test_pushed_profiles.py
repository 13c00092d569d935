"""Profiles from a gateway take the place of a missing file, under the rules of a file."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from cortex.config.profiles import Profile, Profiles, encode_profiles
from cortex.errors import BadRequest, Conflict
from cortex.neuron.catalog.pushed_profiles import OWN_FILE, ProfileSource
from cortex.wire.status import LoadOrder, ProfilesMark, ProfilesOrder, UnloadOrder

FRESH = Profiles(models=[Profile(id="m", aliases=["default"], parallel=2)])


def order(profiles: Profiles = FRESH, replaces: str = "", source: str = "g1") -> ProfilesOrder:
    return ProfilesOrder(source, replaces, msgspec.Raw(encode_profiles(profiles)[0]))


def source(*, own_file: bool = False) -> ProfileSource:
    return ProfileSource(Profiles(), own_file=own_file)


def test_a_file_of_its_own_is_never_replaced() -> None:
    profiles = source(own_file=True)
    with pytest.raises(Conflict, match=r"models\.toml of its own"):
        profiles.take(order())
    assert profiles.mark is not None
    assert profiles.mark.source == OWN_FILE


def test_an_order_that_was_overtaken_is_refused() -> None:
    profiles = source()
    first = profiles.take(order())
    with pytest.raises(Conflict, match="g1"):
        profiles.take(order(source="g2"))
    assert profiles.mark == first
    assert profiles.take(order(Profiles(), replaces=first.hash)).hash == encode_profiles(Profiles())[1]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b'{"models":[{"id":"a","paralel":2}]}', "did you mean parallel"),
        (b'{"models":[{"id":"a"},{"id":"b","aliases":["a"]}]}', "claimed by both"),
        (b'{"models":3}', "array"),
        (b"3", "object"),
    ],
)
def test_what_a_file_may_not_say_is_refused_and_changes_nothing(document: bytes, why: str) -> None:
    profiles = source()
    with pytest.raises(BadRequest, match=why):
        profiles.take(ProfilesOrder("g1", "", msgspec.Raw(document)))
    assert (profiles.current, profiles.mark) == (Profiles(), None)


async def test_what_is_loaded_stays_as_it_is_until_it_is_unloaded(bench) -> None:
    async with bench("m") as neuron:
        await neuron.admin.load(LoadOrder("m"))
        transport = httpx.ASGITransport(app=neuron.neuron.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://neuron") as http:
            answer = await http.put("/models/profiles", content=msgspec.json.encode(order()))
        mark = msgspec.json.decode(answer.content, type=ProfilesMark)
        assert neuron.admin.status().profiles == mark == ProfilesMark(encode_profiles(FRESH)[1], "g1")
        managed = neuron.registry.models["m"]
        assert managed.next_entry is not None
        assert neuron.admin.status().models[0].card.parallel == 4
        await neuron.admin.unload(UnloadOrder("m"))
        assert neuron.admin.status().models[0].card.parallel == 2
        assert neuron.neuron.backend.resolve("default") == "m"


async def test_an_unloaded_model_has_followed_when_the_answer_comes(bench) -> None:
    """Who sent them may order loads by them at once."""
    async with bench("m") as neuron:
        transport = httpx.ASGITransport(app=neuron.neuron.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://neuron") as http:
            await http.put("/models/profiles", content=msgspec.json.encode(order()))
        assert neuron.admin.status().models[0].card.parallel == 2
