"""Whatever becomes of a neuron's connection, and wherever: each request's client gets exactly one end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortex.config.profiles import Profiles
from cortex.config.settings import GatewayConfig, NeuronEntry
from cortex.gateway.neurons.connection import NeuronConnection
from cortex.gateway.neurons.connections import NeuronConnections
from cortex.gateway.neurons.fleet import Lost
from cortex.gateway.requests.backend import FleetBackend
from cortex.gateway.requests.effect_runner import EffectRunner
from cortex.gateway.requests.mailboxes import Mailboxes
from cortex.gateway.scheduling.catalogue import Catalogue
from cortex.gateway.scheduling.loop import Loop
from cortex.gateway.scheduling.scheduler import Scheduler
from cortex.wire.connection import StatusPush, ToNeuron
from cortex.wire.events import Event, Failed, Finished
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.status import NeuronStatus
from cortex.wire.worker import Emission, Emissions, Submit
from tests.fake_neuron import FakeNeuron, ManualClock, chat, words
from tests.gateway.scheduling.world import models, policy

REQUESTS = 3


class Network:
    """One connection, whose neuron's bytes come in pieces of `sizes` and end behind `total` of them; then none any
    more."""

    def __init__(self, sizes: list[int], total: int) -> None:
        self._sizes = sizes
        self._total = total
        self._fake = FakeNeuron("n", models("a"))
        self._fake.models["a"].state, self._fake.models["a"].devices = "ready", ["cpu0"]
        self._opened = False

    async def connect(
        self,
        endpoint: str,
        token: str | None,
        connect_s: float,
        on_status: Callable[[NeuronConnection, NeuronStatus], None],
        on_lost: Callable[[NeuronConnection, Lost], None],
    ) -> NeuronConnection:
        await asyncio.sleep(0)
        if self._opened:
            raise Lost("connection refused")
        self._opened = True
        connection = NeuronConnection(on_status, on_lost)
        self._wire = Wire(connection)
        connection.connection_made(self._wire)
        connection.open("/connection", {})
        connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        self._wire.say(StatusPush(self._fake.status()))
        self._wire.flush(len(self._wire.unread))
        return connection

    async def run(self) -> None:
        """Deliver everything, or what comes before the cut."""
        left = self._total
        for size in [*self._sizes, 1 << 20]:
            for _ in range(3):
                await asyncio.sleep(0)  # what was read is acted on, and more may be asked
            piece = min(size, left, len(self._wire.unread))
            self._wire.flush(piece)
            left -= piece
        self._wire.cut()


class Wire(asyncio.Transport):
    """The neuron behind its transport: answers each Submit with the words that a FakeNeuron would say."""

    def __init__(self, connection: NeuronConnection) -> None:
        super().__init__()
        self._connection = connection
        self._commands = FrameDecoder(msgspec.msgpack.Decoder(ToNeuron))
        self._head = True
        self._closed = False
        self.unread = b""

    def write(self, data: Any) -> None:
        if self._head:
            self._head = False
            return
        for command in self._commands.feed(bytes(data).split(b"\r\n", 1)[1][:-2]):
            if isinstance(command, Submit):
                for events in words(command.request):
                    self.say(Emissions([Emission.of(command.request.id, events)]))

    def say(self, frame: object) -> None:
        data = encode_frame(frame)
        self.unread += b"%x\r\n%b\r\n" % (len(data), data)

    def flush(self, size: int) -> None:
        data, self.unread = self.unread[:size], self.unread[size:]
        if data and not self._closed:
            self._connection.data_received(data)

    def cut(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.connection_lost(None)

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self.cut()

    def abort(self) -> None:
        self.cut()


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    sizes=st.lists(st.integers(1, 400), max_size=12),
    total=st.one_of(st.just(100_000), st.integers(0, 3000)),
    greedy=st.booleans(),
)
async def test_every_request_ends_in_exactly_one_way(sizes: list[int], total: int, greedy: bool) -> None:
    network, mailboxes, clock = Network(sizes, total), Mailboxes(), ManualClock()
    runner = EffectRunner(mailboxes, lambda _: None, lambda *_: None, lambda _: None)
    loop = Loop(Scheduler(policy(), [NeuronEntry(name="n", endpoint="http://n")]), runner.perform, clock)
    connections = NeuronConnections(loop, GatewayConfig, network.connect)
    runner.start(loop, connections)
    catalogue = Catalogue(lambda: loop.scheduler.state.fleet, Profiles(), None)
    backend = FleetBackend(loop, connections, mailboxes, catalogue, lambda _: None)
    connections.follow_fleet()
    await connections.first_round()
    said: list[list[Event]] = [[] for _ in range(REQUESTS)]
    requests = [chat(job_id=str(n), temperature=0 if greedy else 0.8) for n in range(REQUESTS)]
    asking = [
        asyncio.create_task(backend.serve(request, events.extend))
        for request, events in zip(requests, said, strict=True)
    ]
    await network.run()
    for _ in range(3):  # nobody is left to serve them: those that wait are refused in time
        for _ in range(20):
            await asyncio.sleep(0)
        clock.advance(60.0)
        loop.post(lambda scheduler, now: scheduler.on_tick(now))
    async with asyncio.timeout(60):
        await asyncio.gather(*asking)
    for events in said:
        ends = [event for event in events if isinstance(event, Finished | Failed)]
        assert ends == [events[-1]]
    assert loop.scheduler.state.tickets() == []
    assert mailboxes.streams == 0
    await runner.aclose()
    await connections.aclose()
