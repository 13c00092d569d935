"""Swapping in a storm of mixed requests: how many loads it takes, and how long anybody waits."""

from __future__ import annotations

import pytest

from cortex.gateway.scheduling.policy import Policy
from tests.gateway.scheduling.storm import Storm, drawn, fewest_loads
from tests.gateway.scheduling.world import policy


def rules() -> Policy:
    return policy(min_residency_s=5.0, starvation_s=20.0, queue_s=300.0)


@pytest.mark.parametrize("seed", [0, 100, 200])
@pytest.mark.parametrize(
    ("load_s", "service_s", "think_s"), [(1.5, 0.1, 0.0), (1.5, 0.1, 1.0), (4.0, 0.3, 0.5), (0.05, 0.01, 0.1)]
)
def test_a_storm_takes_few_more_loads_than_it_must(load_s: float, service_s: float, think_s: float, seed: int) -> None:
    """160 requests by 16 clients for five models, room for three, a death every eight seconds. Small models load faster
    than heartbeats come: taken for broken until proved, each was loaded on two neurons or three."""
    sequences = drawn(10, seed=seed)
    storm = Storm(sequences, load_s, service_s, rules(), think_s=think_s)
    world = storm.run()
    loads = sum(len(neuron.loads) for neuron in world.neurons.values())
    assert loads <= 2.5 * (fewest_loads(sequences, 3) + storm.kills)
    assert not world.refused
    assert max(storm.waits) <= 8 * load_s + 5.0
