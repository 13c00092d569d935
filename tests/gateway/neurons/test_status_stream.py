"""A neuron's own word reaches the fleet without a poll, and its silence is noticed at once."""

from __future__ import annotations

import asyncio

from cortex.gateway.neurons.status_stream import retry_s
from tests.fakes import FakeNeuron
from tests.gateway.harness import Fleet, fleet_of
from tests.gateway.scheduling.world import models


async def pushing(fleet: Fleet) -> None:
    """From now on the neuron pushes and nobody polls but at a wake."""
    fleet.neurons.pushes = True
    fleet.rest()
    fleet.poller.wake("n")
    async with asyncio.timeout(60):
        while not fleet.poller.hears("n"):  # noqa: ASYNC110 - a double has no events
            await asyncio.sleep(0)
    await fleet.settled()


async def test_a_change_is_known_without_a_poll() -> None:
    neuron = FakeNeuron("n", models("a"))
    async with fleet_of(neuron) as fleet:
        await pushing(fleet)
        polls = fleet.neurons.polls
        neuron.models["a"].state, neuron.models["a"].devices = "ready", ["cpu0"]
        neuron.revision += 1
        await fleet.settled()
        assert fleet.catalogue.models()[0][1] == ["n"]
        assert fleet.neurons.polls == polls


async def test_a_neuron_whose_feed_breaks_is_looked_at_at_once() -> None:
    neuron = FakeNeuron("n", models("a"))
    async with fleet_of(neuron) as fleet:
        await pushing(fleet)
        neuron.kill()
        await fleet.settled()
        assert fleet.loop.scheduler.state.fleet.neurons["n"].health == "down"
        assert not fleet.poller.hears("n")


async def test_a_neuron_that_comes_back_is_heard_again() -> None:
    neuron = FakeNeuron("n", models("a"))
    async with fleet_of(neuron) as fleet:
        await pushing(fleet)
        neuron.kill()
        await fleet.settled()
        neuron.restart()
        await pushing(fleet)
        assert fleet.loop.scheduler.state.fleet.neurons["n"].health == "healthy"


def test_tries_become_rarer_but_never_rare() -> None:
    assert [retry_s(failures) for failures in (0, 1, 2, 20)] == [0.25, 0.5, 1.0, 5.0]
