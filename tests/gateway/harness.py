"""A gateway without HTTP: the real loop, effect runner, connections' keeper and backend over FakeNeurons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cortex.config.profiles import Profiles
from cortex.config.settings import GatewayConfig, NeuronEntry
from cortex.gateway.metrics import GatewayMetrics
from cortex.gateway.neurons.connections import NeuronConnections
from cortex.gateway.requests.backend import FleetBackend
from cortex.gateway.requests.effect_runner import EffectRunner
from cortex.gateway.requests.mailboxes import Mailboxes
from cortex.gateway.scheduling.catalogue import Catalogue
from cortex.gateway.scheduling.loop import Loop
from cortex.gateway.scheduling.policy import Policy
from cortex.gateway.scheduling.scheduler import Scheduler
from cortex.wire.events import Event, Failed, Finished, TextDelta
from cortex.wire.inference import Request
from tests.fake_neuron import FakeNeuron, ManualClock
from tests.fakes import FakeNeurons
from tests.gateway.scheduling.world import policy

__all__ = ["Fleet", "fleet_of", "text_of"]


@dataclass
class Fleet:
    clock: ManualClock
    neurons: FakeNeurons
    mailboxes: Mailboxes
    loop: Loop
    connections: NeuronConnections
    backend: FleetBackend
    metrics: GatewayMetrics
    catalogue: Catalogue

    async def ask(self, request: Request) -> list[Event]:
        """Every event of one request."""
        events: list[Event] = []
        await self.backend.serve(request, events.extend)
        return events

    def see(self, name: str) -> None:
        """The neuron's status of this moment, as it would send it sooner or later."""
        status = self.neurons.by_name[name].status()
        self.loop.post(lambda scheduler, now: scheduler.on_status(name, status, now))

    def tick(self, seconds: float = 0.5) -> None:
        self.clock.advance(seconds)
        self.loop.post(lambda scheduler, now: scheduler.on_tick(now))

    async def settled(self) -> None:
        """Let every task that can run do so."""
        for _ in range(50):
            await asyncio.sleep(0)


@asynccontextmanager
async def fleet_of(*fakes: FakeNeuron, rules: Policy | None = None) -> AsyncIterator[Fleet]:
    clock = ManualClock()
    for fake in fakes:
        fake.clock = clock
    neurons, mailboxes, metrics = FakeNeurons(*fakes), Mailboxes(), GatewayMetrics()
    effect_runner = EffectRunner(mailboxes, metrics.observe, metrics.ordered, keep=lambda _: None)
    entries = [NeuronEntry(name=fake.name, endpoint=f"http://{fake.name}") for fake in fakes]
    loop = Loop(Scheduler(rules or policy(), entries), effect_runner.perform, clock)
    connections = NeuronConnections(loop, GatewayConfig, neurons.connect)
    effect_runner.start(loop, connections)
    metrics.attach(loop)
    catalogue = Catalogue(lambda: loop.scheduler.state.fleet, Profiles(), None)
    backend = FleetBackend(loop, connections, mailboxes, catalogue, metrics.failed_over)
    connections.follow_fleet()
    await connections.first_round()
    try:
        yield Fleet(clock, neurons, mailboxes, loop, connections, backend, metrics, catalogue)
    finally:
        await effect_runner.aclose()
        await connections.aclose()


def text_of(events: Sequence[Event]) -> str:
    """The answer's text; asserts that there is exactly one end, and that it is last."""
    ends = [event for event in events if isinstance(event, Finished | Failed)]
    assert len(ends) == 1
    assert events[-1] is ends[0]
    return "".join(event.text for event in events if isinstance(event, TextDelta))
