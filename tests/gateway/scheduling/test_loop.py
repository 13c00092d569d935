"""One event at a time."""

from __future__ import annotations

from cortex.gateway.scheduling.effects import PollNeuron
from cortex.gateway.scheduling.loop import Loop
from cortex.gateway.scheduling.scheduler import Scheduler
from tests.fake_neuron import ManualClock
from tests.gateway.scheduling.world import policy


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
