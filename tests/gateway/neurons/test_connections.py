"""One connection to each neuron, kept whatever happens: what neurons say reaches the fleet, and their loss is
noticed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cortex.config.settings import GatewayConfig, NeuronEntry
from cortex.errors import Conflict
from cortex.gateway.neurons.connections import NeuronConnections, retry_s
from cortex.gateway.neurons.fleet import Lost, Neuron
from cortex.gateway.scheduling.loop import Loop
from cortex.gateway.scheduling.scheduler import Scheduler
from cortex.wire.events import Event, Started
from cortex.wire.status import LoadOrder, UnloadOrder
from tests.fake_neuron import FakeNeuron, chat
from tests.fakes import FakeNeuronServer
from tests.gateway.harness import fleet_of, text_of
from tests.gateway.scheduling.world import models, policy


class Gateway:
    """Connections and a scheduler that are told of no requests."""

    def __init__(self, endpoint: str, token: str | None = None, **config: float) -> None:
        self.loop = Loop(Scheduler(policy(), [NeuronEntry(name="n", endpoint=endpoint, token=token)]), lambda _: None)
        self.connections = NeuronConnections(self.loop, lambda: GatewayConfig(**{"connect_s": 60.0, **config}))  # type: ignore[arg-type]

    @property
    def neuron(self) -> Neuron:
        return self.loop.scheduler.state.fleet.neurons["n"]

    async def everything(self, request_id: str = "r") -> list[Event]:
        events: list[Event] = []
        stream = self.connections.submit("n", chat(job_id=request_id), events.extend)
        try:
            await stream.ended
        finally:
            stream.close()
        return events

    def entries(self, *entries: NeuronEntry) -> None:
        self.loop.post(lambda scheduler, now: scheduler.on_neurons(list(entries), now))
        self.connections.follow_fleet()


@asynccontextmanager
async def gateway_to(endpoint: str, token: str | None = None, **config: float) -> AsyncIterator[Gateway]:
    gateway = Gateway(endpoint, token, **config)
    gateway.connections.follow_fleet()
    try:
        async with asyncio.timeout(60):
            await gateway.connections.first_round()
            yield gateway
    finally:
        await gateway.connections.aclose()


@asynccontextmanager
async def connected(server: FakeNeuronServer, token: str | None = None, **config: float) -> AsyncIterator[Gateway]:
    async with server.running() as endpoint, gateway_to(endpoint, token, **config) as gateway:
        yield gateway


async def until(fact: object) -> None:
    async with asyncio.timeout(60):
        while not fact():  # type: ignore[operator]  # noqa: ASYNC110 - a double has no events
            await asyncio.sleep(0.002)


def ready() -> FakeNeuron:
    neuron = FakeNeuron("n", models("a", "b"))
    neuron.models["a"].state, neuron.models["a"].devices = "ready", ["cpu0"]
    return neuron


# ---- over real sockets


async def test_a_status_document_comes_as_it_was_sent() -> None:
    fake = ready()
    async with connected(FakeNeuronServer(fake)) as gateway:
        assert gateway.neuron.status == fake.status()


async def test_orders_are_carried_out_and_refusals_keep_their_kind() -> None:
    fake = ready()
    async with connected(FakeNeuronServer(fake)) as gateway:
        await gateway.connections.unload("n", UnloadOrder("a"))
        assert (await gateway.connections.load("n", LoadOrder("b", revision=fake.revision))).state == "ready"
        with pytest.raises(Conflict, match="revision"):
            await gateway.connections.load("n", LoadOrder("a", revision=fake.revision - 1))


async def test_the_status_that_shows_an_orders_outcome_comes_before_its_reply() -> None:
    async with connected(FakeNeuronServer(ready())) as gateway:
        await gateway.connections.unload("n", UnloadOrder("a"))
        status = gateway.neuron.model("a")
        assert status is not None
        assert status.state == "unloaded"


async def test_events_arrive_in_order_and_complete() -> None:
    async with connected(FakeNeuronServer(ready())) as gateway:
        events = await gateway.everything()
        assert isinstance(events[0], Started)
        assert len(events) == 8


async def test_everything_to_a_neuron_shares_one_connection() -> None:
    server = FakeNeuronServer(ready())
    async with connected(server) as gateway:
        await asyncio.gather(*(gateway.everything(f"r{number}") for number in range(8)))
        await gateway.connections.unload("n", UnloadOrder("b"))
        await gateway.everything("later")
    assert server.connections == 1


async def test_closing_a_stream_early_cancels_the_request_at_the_neuron() -> None:
    """The second hop (litellm#37140)."""
    fake = ready()
    fake.gate = asyncio.Event()
    server = FakeNeuronServer(fake)
    async with connected(server) as gateway:
        begun = asyncio.Event()
        stream = gateway.connections.submit("n", chat(), lambda _: begun.set())
        await begun.wait()
        assert fake.models["a"].running == 1
        stream.close()
        await until(lambda: not fake.models["a"].running)
        assert server.cancelled == 1


async def test_a_connection_cut_in_mid_stream_is_the_neurons_loss() -> None:
    fake = ready()
    fake.die_after = 3
    async with connected(FakeNeuronServer(fake)) as gateway:
        with pytest.raises(Lost):
            await gateway.everything()
        assert gateway.neuron.health == "down"
        with pytest.raises(Lost, match="no connection"):
            await gateway.everything()


async def test_nobody_listening_is_down_with_a_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with gateway_to(f"http://127.0.0.1:{port}") as gateway:
        assert (gateway.neuron.health, gateway.neuron.reason) == ("down", "connection refused")


async def test_a_neuron_that_falls_silent_is_down_and_so_is_what_runs_on_it() -> None:
    fake = ready()
    fake.gate = asyncio.Event()
    async with connected(FakeNeuronServer(fake), silence_s=0.2) as gateway:
        stream = gateway.connections.submit("n", chat(), lambda _: None)
        with pytest.raises(Lost, match="sent nothing for"):
            await stream.ended
        assert gateway.neuron.reason.startswith("it sent nothing for")


async def test_the_token_is_presented() -> None:
    server = FakeNeuronServer(ready(), token="secret")
    async with connected(server, token="secret") as gateway:
        assert gateway.neuron.health == "healthy"
    async with connected(FakeNeuronServer(ready(), token="secret")) as gateway:
        assert (gateway.neuron.health, gateway.neuron.reason) == ("down", "no")


async def test_something_that_is_no_neuron_is_down_with_a_reason() -> None:
    server = FakeNeuronServer(ready())
    async with server.running() as endpoint, gateway_to(f"{endpoint}/elsewhere") as gateway:
        assert gateway.neuron.health == "down"
        assert "another version" in gateway.neuron.reason


async def test_a_neuron_that_moved_is_followed_and_what_runs_at_its_old_address_runs_on() -> None:
    old, new = ready(), FakeNeuron("n", models("c"))
    old.gate = asyncio.Event()
    async with FakeNeuronServer(new).running() as elsewhere, connected(FakeNeuronServer(old)) as gateway:
        events: list[Event] = []
        stream = gateway.connections.submit("n", chat(), events.extend)
        await until(lambda: events)
        gateway.entries(NeuronEntry(name="n", endpoint=elsewhere))
        await until(lambda: gateway.neuron.model("c"))
        old.gate.set()
        await stream.ended
        assert len(events) == 8
        assert gateway.neuron.model("a") is None


async def test_a_removed_neuron_is_let_go_behind_its_last_request() -> None:
    fake = ready()
    fake.gate = asyncio.Event()
    async with connected(FakeNeuronServer(fake)) as gateway:
        stream = gateway.connections.submit("n", chat(), lambda _: None)
        gateway.entries()
        fake.gate.set()
        await stream.ended
        await until(lambda: not gateway.connections._retired)
        with pytest.raises(Lost):
            gateway.connections.submit("n", chat(), lambda _: None)


# ---- over neurons in memory


async def test_a_change_is_known_at_once() -> None:
    neuron = FakeNeuron("n", models("a"))
    async with fleet_of(neuron) as fleet:
        neuron.models["a"].state, neuron.models["a"].devices = "ready", ["cpu0"]
        neuron.revision += 1
        await fleet.settled()
        assert fleet.catalogue.models()[0][1] == ["n"]


async def test_a_neuron_without_traffic_keeps_its_connection_and_is_not_asked() -> None:
    async with fleet_of(FakeNeuron("n", models("a"))) as fleet:
        await fleet.settled()
        assert fleet.neurons.pushes == 1
        assert fleet.connections._links["n"].connection is not None


async def test_a_neuron_whose_connection_breaks_is_down_at_once() -> None:
    neuron = FakeNeuron("n", models("a"))
    async with fleet_of(neuron) as fleet:
        neuron.kill()
        await fleet.settled()
        assert fleet.loop.scheduler.state.fleet.neurons["n"].health == "down"
        assert fleet.connections._links["n"].connection is None


async def test_a_neuron_that_comes_back_is_connected_again() -> None:
    neuron = FakeNeuron("n", models("a"))
    async with fleet_of(neuron) as fleet:
        neuron.kill()
        await fleet.settled()
        neuron.restart()
        fleet.connections.refresh("n")  # not after the back-off
        await fleet.settled()
        assert fleet.loop.scheduler.state.fleet.neurons["n"].health == "healthy"


async def test_a_loss_and_a_return_are_each_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A restarted neuron's first status was logged as a loss, and nothing said that it was back."""
    caplog.set_level("INFO")
    neuron = FakeNeuron("n", models("a"))
    async with fleet_of(neuron) as fleet:
        for _ in range(2):
            neuron.kill()
            await fleet.settled()
            neuron.restart()
            fleet.connections.refresh("n")
            await fleet.settled()
    told = [record.message for record in caplog.records if "neuron" in record.message]
    loss = ["neuron is not connected", "neuron lost, its requests move or end"]
    assert told == ["neuron is connected", *loss, "neuron is connected", *loss, "neuron is connected"]


async def test_a_request_whose_load_a_reload_took_away_is_served_by_another_neuron() -> None:
    """It waited 150 s, until the load counted as stalled."""
    left, stays = FakeNeuron("m", models("a")), FakeNeuron("n", models("a"))
    async with fleet_of(left, stays) as fleet:
        fleet.neurons.loading = asyncio.Event()
        asking = asyncio.create_task(fleet.ask(chat("a")))
        await fleet.settled()
        assert (left.loads, stays.loads) == (["a"], [])
        entries = [NeuronEntry(name="n", endpoint="http://n")]
        fleet.loop.post(lambda scheduler, now: scheduler.on_neurons(entries, now))
        fleet.connections.follow_fleet()
        await fleet.settled()
        assert stays.loads == ["a"]
        fleet.neurons.loading.set()
        assert text_of(await asking)
        assert [request.model for request in stays.seen] == ["a"]


async def test_a_doubtful_neuron_is_asked_for_its_status() -> None:
    async with fleet_of(FakeNeuron("n", models("a"))) as fleet:
        pushes = fleet.neurons.pushes
        fleet.connections.refresh("n")
        assert fleet.neurons.pushes == pushes + 1


def test_tries_become_rarer_but_never_rare() -> None:
    assert [retry_s(failures, lambda: 1.0) for failures in (0, 1, 2, 20)] == [0.25, 0.5, 1.0, 5.0]


def test_gateways_that_lost_a_neuron_together_do_not_try_in_step() -> None:
    waits = [retry_s(20) for _ in range(50)]
    assert all(2.5 <= wait <= 5.0 for wait in waits)
    assert max(waits) - min(waits) > 0.5
