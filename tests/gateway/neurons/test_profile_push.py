"""models.toml reaches the neurons that have none, once, and two gateways don't overwrite each other's."""

from __future__ import annotations

import pytest
from msgspec import structs

from cortex.config.profiles import Profile, Profiles, encode_profiles
from cortex.config.settings import Config, GatewayConfig, NeuronEntry
from cortex.gateway.neurons.profile_push import ProfilePush
from cortex.gateway.scheduling.effects import Job, OrderLoad
from cortex.gateway.scheduling.policy import Policy
from cortex.gateway.scheduling.scheduler import Scheduler
from cortex.wire.status import NeuronStatus, ProfilesMark
from tests.fake_neuron import FakeNeuron, chat
from tests.gateway.harness import fleet_of
from tests.gateway.scheduling.world import models

ONE = Profiles(models=[Profile(id="a", aliases=["default"])])
TWO = Profiles(models=[Profile(id="a", context=2048)])


def policy(profiles: Profiles, *, port: int = 1, push: bool = True, **entry: object) -> Policy:
    gateway = GatewayConfig(listen=f"127.0.0.1:{port}", push_profiles=push)
    entries = [NeuronEntry(name="n", endpoint="http://n", **entry)]  # type: ignore[arg-type]
    return Policy.of(Config(gateway=gateway, neurons=entries), profiles)


def status(held: ProfilesMark | None) -> NeuronStatus:
    return NeuronStatus("n", "0", "boot", 1, "ready", [], [], [], profiles=held)


def made(profiles: Profiles = ONE, **options: object) -> ProfilePush:
    push = policy(profiles, **options).push  # type: ignore[arg-type]
    assert push is not None
    return push


@pytest.mark.parametrize(
    ("held", "due"),
    [
        (None, True),
        (ProfilesMark("old", made().source), True),
        (ProfilesMark(made().hash, made().source), False),
        (ProfilesMark("old", "another gateway"), False),
        (ProfilesMark("old", "models.toml"), False),
    ],
    ids=["none yet", "an older version of ours", "the same", "another gateway's", "a file of its own"],
)
def test_who_is_to_get_them(held: ProfilesMark | None, due: bool) -> None:
    order = made().due("n", status(held))
    assert (order is not None) is due
    if order is not None:
        assert order.replaces == (held.hash if held else "")


def test_nothing_is_pushed_unless_asked_for_by_gateway_or_neuron() -> None:
    assert made(push=False).due("n", status(None)) is None
    assert made(push=True, push_profiles=False).due("n", status(None)) is None
    assert made(push=False, push_profiles=True).due("n", status(None)) is not None


async def test_a_neuron_gets_them_once_and_again_after_a_restart_or_a_change() -> None:
    neuron = FakeNeuron("n", models("a"))
    async with fleet_of(neuron, rules=policy(ONE)) as fleet:
        await fleet.settled()
        for _ in range(3):
            fleet.connections.refresh("n")
            await fleet.settled()
        assert [bytes(order.document) for order in neuron.pushes] == [encode_profiles(ONE)[0]]
        fleet.loop.post(lambda scheduler, now: scheduler.on_policy(policy(TWO), now))
        await fleet.settled()
        assert bytes(neuron.pushes[-1].document) == encode_profiles(TWO)[0]
        neuron.restart()
        await fleet.settled()
        fleet.connections.refresh("n")  # connects again without waiting for the back-off
        await fleet.settled()
        assert len(neuron.pushes) == 3


def test_a_neuron_without_profiles_is_given_no_load_before_it_has_them() -> None:
    """It would load the model as no profile says, and keep it so."""
    entry = NeuronEntry(name="n", endpoint="http://n")
    scheduler, fake = Scheduler(policy(ONE), [entry]), FakeNeuron("n", models("a"))
    scheduler.on_status("n", fake.status(), 0.0)
    assert scheduler.on_request(Job("1", "a", 0.0, chat("a")), 0.0) == []
    equipped = structs.replace(fake.status(), profiles=ProfilesMark(made().hash, made().source))
    assert [effect for effect in scheduler.on_status("n", equipped, 0.1) if isinstance(effect, OrderLoad)]


async def test_two_gateways_with_different_files_do_not_fight() -> None:
    neuron = FakeNeuron("n", models("a"))
    rules = policy(ONE, port=1), policy(TWO, port=2)
    async with fleet_of(neuron, rules=rules[0]) as one, fleet_of(neuron, rules=rules[1]) as two:
        for _ in range(5):
            for fleet in (one, two):
                fleet.connections.refresh("n")
                await fleet.settled()
        assert len(neuron.pushes) == 1
