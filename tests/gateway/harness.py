"""A gateway without HTTP: the real loop, errands, poller and backend over FakeNeurons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from cortex.config.profiles import Profiles
from cortex.config.settings import GatewayConfig, NeuronEntry
from cortex.gateway.metrics import GatewayMetrics
from cortex.gateway.neurons.poller import Poller
from cortex.gateway.requests.backend import FleetBackend
from cortex.gateway.requests.effect_runner import EffectRunner
from cortex.gateway.requests.mailboxes import Mailboxes
from cortex.gateway.scheduling.catalogue import Catalogue
from cortex.gateway.scheduling.loop import Loop
from cortex.gateway.scheduling.policy import Policy
from cortex.gateway.scheduling.scheduler import Scheduler
from cortex.wire.events import Event, Failed, Finished, TextDelta
from cortex.wire.inference import Request
from tests.fakes import FakeNeuron, FakeNeurons, ManualClock
from tests.gateway.scheduling.world import policy

__all__ = ["Fleet", "fleet_of", "text_of"]


@dataclass
class Polling:
    poll_busy_s: float = 0.001
    poll_idle_s: float = 0.005

    def config(self) -> GatewayConfig:
        return GatewayConfig(poll_busy_s=self.poll_busy_s, poll_idle_s=self.poll_idle_s)


@dataclass
class Fleet:
    clock: ManualClock
    neurons: FakeNeurons
    mailboxes: Mailboxes
    loop: Loop
    poller: Poller
    backend: FleetBackend
    metrics: GatewayMetrics
    catalogue: Catalogue
    polling: Polling

    async def ask(self, request: Request) -> list[Event]:
        """Every event of one request."""
        async with aclosing(self.backend.infer(request)) as stream:
            return [event async for batch in stream for event in batch]

    def tick(self, seconds: float = 0.5) -> None:
        self.clock.advance(seconds)
        self.loop.post(lambda scheduler, now: scheduler.on_tick(now))

    def rest(self) -> None:
        """No more polls but those that something asks for."""
        self.polling.poll_busy_s = self.polling.poll_idle_s = 3600.0

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
    effect_runner = EffectRunner(neurons, mailboxes, metrics.observe, metrics.ordered, keep=lambda _: None)
    entries = [NeuronEntry(name=fake.name, endpoint=f"http://{fake.name}") for fake in fakes]
    loop = Loop(Scheduler(rules or policy(), entries), effect_runner.perform, clock)
    polling = Polling()
    poller = Poller(neurons, loop, polling.config)
    effect_runner.start(loop, poller)
    metrics.attach(loop)
    catalogue = Catalogue(lambda: loop.scheduler.state.fleet, Profiles(), None)
    backend = FleetBackend(loop, neurons, mailboxes, catalogue, metrics.failed_over)
    await poller.first_round()
    poller.follow_fleet()
    try:
        yield Fleet(clock, neurons, mailboxes, loop, poller, backend, metrics, catalogue, polling)
    finally:
        await poller.aclose()
        await effect_runner.aclose()


def text_of(events: Sequence[Event]) -> str:
    """The answer's text; asserts that there is exactly one end, and that it is last."""
    ends = [event for event in events if isinstance(event, Finished | Failed)]
    assert len(ends) == 1
    assert events[-1] is ends[0]
    return "".join(event.text for event in events if isinstance(event, TextDelta))
