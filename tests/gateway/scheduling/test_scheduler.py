"""The scheduler's promises, as scenarios on in-memory neurons. No event loop, no time but what the test lets pass."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from cortex.config.settings import NeuronEntry
from cortex.gateway.scheduling.assessments import assess_all
from cortex.gateway.scheduling.effects import (
    AbandonOrders,
    AbortNeuron,
    Grant,
    Job,
    OrderLoad,
    OrderUnload,
    OutcomeKind,
)
from cortex.wire.prefix import prefix_hashes
from cortex.wire.status import Limits, ModelCard, UnloadOrder
from tests.fake_neuron import FakeModel, FakeNeuron, chat
from tests.gateway.scheduling.world import World, models, policy


def card(model: str, **fields: object) -> ModelCard:
    return ModelCard(id=model, limits=Limits(context=4096), **fields)  # type: ignore[arg-type]


def one(*names: str, **options: object) -> World:
    """One neuron with room for one model."""
    return World([FakeNeuron("n", models(*names))], policy(**options))  # type: ignore[arg-type]


def slow(*names: str, **options: object) -> World:
    return World([FakeNeuron("n", models(*names))], policy(**options), slow_loads=True)  # type: ignore[arg-type]


def loads(world: World) -> list[str]:
    return [effect.model for effect in world.effects if isinstance(effect, OrderLoad)]


def test_a_request_for_a_loadable_model_loads_it() -> None:
    world = one("a")
    world.ask("1")
    assert loads(world) == ["a"]
    assert world.granted == {"1": "n"}


def test_a_request_for_a_loaded_model_is_granted_at_once() -> None:
    world = one("a")
    world.ask("1")
    world.ask("2")
    assert loads(world) == ["a"]
    assert world.granted == {"1": "n", "2": "n"}


def test_a_neuron_at_two_addresses_is_counted_once() -> None:
    """Else its memory would be promised twice, and one copy would pass for two."""
    world = one("a")
    fleet = [NeuronEntry(name="n", endpoint="http://n"), NeuronEntry(name="also-n", endpoint="http://localhost")]
    world.scheduler.on_neurons(fleet, world.now)
    world.scheduler.on_status("also-n", world.neurons["n"].status(), world.now)
    twin = world.scheduler.state.fleet.neurons["also-n"]
    assert (twin.health, twin.ailment) == ("down", "it is n under another address")
    world.scheduler.on_neurons(fleet[1:], world.now)
    world.scheduler.on_status("also-n", world.neurons["n"].status(), world.now)
    assert world.scheduler.state.fleet.neurons["also-n"].health == "healthy"


def test_twenty_parallel_cold_requests_make_exactly_one_load() -> None:
    """A public bug of this kind: lmstudio-bug-tracker#1751."""
    world = slow("a", in_flight=20)
    for number in range(20):
        world.ask(str(number))
    world.poll()
    world.finish("a")
    assert loads(world) == ["a"]
    assert len(world.granted) == 20


def test_a_load_outlives_the_client_that_asked_for_it() -> None:
    world = slow("a")
    world.ask("1")
    world.ask("2")
    world.cancel("1")
    world.finish("a")
    assert world.granted == {"2": "n"}
    assert world.neurons["n"].models["a"].state == "ready"


def test_a_load_without_any_waiter_left_still_ends_loaded() -> None:
    world = slow("a")
    world.ask("1")
    world.cancel("1")
    world.finish("a")
    world.ask("2")
    assert loads(world) == ["a"]
    assert world.granted == {"2": "n"}


def test_an_idle_model_makes_room() -> None:
    world = one("a", "b")
    world.ask("1", "a")
    world.end("1")
    world.ask("2", "b")
    assert world.neurons["n"].evictions == ["a"]
    assert world.granted == {"2": "n"}


def test_a_busy_model_is_not_evicted_and_its_stream_ends_whole() -> None:
    """A public bug of this kind: lmstudio-bug-tracker#1796."""
    world = one("a", "b")
    world.ask("1", "a")
    world.ask("2", "b")
    assert world.granted == {"1": "n"}
    world.tick()
    assert world.neurons["n"].evictions == []
    world.end("1")
    assert world.granted == {"2": "n"}


def test_a_victim_asked_for_before_it_is_gone_queues_and_comes_back() -> None:
    """B is being loaded in a's place when a request for a arrives (ollama#17408)."""
    world = slow("a", "b")
    world.ask("1", "a")
    world.finish("a")
    world.end("1")
    world.ask("2", "b")
    world.ask("3", "a")
    assert "3" not in world.granted
    world.finish("b")
    assert world.granted == {"2": "n"}
    world.end("2")
    world.finish("a")
    assert world.granted == {"3": "n"}


def test_a_request_in_the_tick_of_the_idle_unload_is_served() -> None:
    """The unload is on its way, so the request loads the model anew; nothing hangs (llama-swap#946)."""
    world = one("a", idle_ttl_s=10.0)
    world.slow_loads = True
    world.ask("1")
    world.finish("a")
    world.end("1")
    world.poll()
    world.tick(11)
    assert [type(order) for order in world.open_orders] == [OrderUnload]
    world.ask("2")
    assert world.granted == {}
    world.finish("a")
    world.finish("a")
    assert world.granted == {"2": "n"}


@pytest.mark.parametrize("block", range(5))
def test_requests_at_any_moment_around_the_idle_unload_are_all_served(block: int) -> None:
    """Before, in and after the tick, with the unload carried out sooner or later (llama-swap#946)."""
    for seed in range(block * 100, block * 100 + 100):
        world = _raced(random.Random(seed))
        while world.open_orders:
            _carry_out(world)
        assert world.granted == {"2": "n"}, seed


def _raced(chance: random.Random) -> World:
    world = slow("a", idle_ttl_s=10.0)
    world.ask("1")
    world.finish("a")
    world.end("1")
    world.poll()
    steps = [
        lambda: world.tick(chance.uniform(9.0, 11.0)),
        lambda: world.ask("2"),
        world.poll,
        lambda: _carry_out(world),
    ]
    chance.shuffle(steps)
    for step in steps:
        step()
    return world


def _carry_out(world: World) -> None:
    for order in list(world.open_orders[:1]):
        world.finish(order.model)


def test_a_request_before_the_idle_unload_keeps_the_model() -> None:
    """A public bug of this kind: llama-swap#946."""
    world = one("a", idle_ttl_s=10.0)
    world.ask("1")
    world.end("1")
    world.tick(9.9)
    world.ask("2")
    world.tick(5)
    assert not world.open_orders
    assert world.neurons["n"].models["a"].state == "ready"


def test_monitoring_does_not_keep_a_model_alive() -> None:
    """Polls and ticks are no use (llama.cpp#23096)."""
    world = one("a", idle_ttl_s=10.0)
    world.ask("1")
    world.end("1")
    for _ in range(30):
        world.poll()
        world.tick(1.0)
        assess_all(world.scheduler.state, "a", world.now)
    assert world.neurons["n"].models["a"].state == "unloaded"
    assert loads(world) == ["a"]


def test_alternating_requests_for_two_models_are_grouped() -> None:
    """Fifty of each at once, room for one model, two loads (llama.cpp#28829)."""
    world = one("a", "b", in_flight=4, queue=200)
    for number in range(100):
        world.ask(str(number), "ab"[number % 2])
    for _ in range(100):
        if not world.granted:
            break
        world.end(next(iter(world.granted)))
    assert len(world.done) == 100
    assert world.neurons["n"].loads == ["a", "b"]


def test_a_model_in_constant_use_gives_way_after_its_turn() -> None:
    """No model starves another: after its turn it is closed, drains, and goes."""
    world = one("a", "b", min_residency_s=10.0, starvation_s=60.0)
    world.ask("a0", "a")
    world.ask("b0", "b")
    for number in range(1, 30):
        world.tick(1.0)
        world.ask(f"a{number}", "a")
        running = [job for job in world.granted if job.startswith("a")]
        if "b0" in world.granted:
            break
        if running:
            world.end(running[0])
    assert "b0" in world.granted
    assert world.now < 1000 + 25
    assert world.neurons["n"].evictions == ["a"]


def test_a_model_is_not_closed_before_its_turn() -> None:
    world = one("a", "b", min_residency_s=10.0)
    world.ask("a0", "a")
    world.ask("b0", "b")
    world.tick(5.0)
    world.ask("a1", "a")
    assert "a1" in world.granted


def test_an_idle_model_stays_as_long_as_its_reload_costs() -> None:
    """Two models called by turns by one client don't chase each other."""
    world = World([FakeNeuron("n", [FakeModel("a", load_s=4.0), FakeModel("b")])], policy(min_residency_s=10.0))
    world.ask("1", "a")
    world.end("1")
    world.ask("2", "b")
    world.tick(3.0)
    assert world.granted == {}
    world.tick(1.5)
    assert world.granted == {"2": "n"}


def test_pins_that_leave_no_room_refuse_at_once_and_are_named() -> None:
    """A public bug of this kind: llama.cpp#18153."""
    neuron = FakeNeuron("n", [FakeModel("a", card=card("a", pinned=True)), FakeModel("b")])
    world = World([neuron])
    world.ask("1", "a")
    world.end("1")
    world.ask("2", "b")
    refusal = world.refused["2"].failed
    assert refusal.code == "no_room"
    assert refusal.retry_after is None
    assert "a is pinned" in refusal.message
    assert neuron.evictions == []


def test_an_operators_pin_protects_like_a_profiles() -> None:
    world = one("a", "b")
    world.ask("1", "a")
    world.end("1")
    world._apply(world.scheduler.on_pin("a", True, world.now))
    world.ask("2", "b")
    assert world.refused["2"].failed.code == "no_room"
    world._apply(world.scheduler.on_pin("a", False, world.now))
    world.ask("3", "b")
    assert world.granted == {"3": "n"}


def test_a_failed_load_does_not_block_other_models_and_is_retried_later() -> None:
    """A public bug of this kind: llama-swap#97."""
    world = World([FakeNeuron("n", [FakeModel("x", load_fails=1), FakeModel("y")])])
    world.ask("1", "x")
    assert world.refused["1"].failed.code == "model_load_failed"
    assert "broken" in world.refused["1"].failed.message
    world.ask("2", "y")
    assert world.granted == {"2": "n"}
    world.end("2")
    world.ask("3", "x")
    assert "broken" in world.refused["3"].failed.message
    assert world.neurons["n"].loads == ["x", "y"]
    world.tick(6.0)
    world.ask("4", "x")
    assert world.granted == {"4": "n"}


def test_a_load_that_fails_on_one_neuron_is_tried_on_another() -> None:
    world = World([FakeNeuron("m", [FakeModel("a", load_fails=1)], (300,)), FakeNeuron("n", [FakeModel("a")])])
    world.ask("1")
    assert world.granted == {"1": "n"}


def test_a_neuron_lost_while_loading_gives_its_waiters_an_error() -> None:
    """With nowhere else to go; while it may come back they wait for a moment only (llama.cpp#20685)."""
    world = slow("a")
    world.ask("1")
    world.neurons["n"].kill()
    world.poll()
    world.tick(0.5)
    assert world.refused == {}
    world.tick(5.0)
    assert world.refused["1"].failed.code == "unavailable"
    assert world.refused["1"].failed.retry_after


def test_a_neuron_that_comes_back_serves_whoever_still_waits() -> None:
    """A public bug of this kind: llama.cpp#20685."""
    world = slow("a")
    world.ask("1")
    world.neurons["n"].kill()
    world.poll()
    world.neurons["n"].restart()
    world.open_orders.clear()
    world.poll()
    world.finish("a")
    assert world.granted == {"1": "n"}


def test_the_other_neurons_order_is_respected_and_decided_anew() -> None:
    """Two gateways: an order decided on an old state is refused, read again, and decided again."""
    world = one("a", "b")
    neuron = world.neurons["n"]
    neuron.models["b"].state, neuron.models["b"].devices = "ready", ["cpu0"]
    neuron.revision += 1
    world.ask("1", "a")
    assert neuron.evictions == ["b"]
    assert world.granted == {"1": "n"}


def test_a_load_that_makes_progress_has_no_deadline() -> None:
    """A public bug of this kind: llama-swap#92."""
    world = slow("a")
    world.ask("1")
    for step in range(40):
        world.neurons["n"].models["a"].progress = step / 40
        world.poll()
        world.tick(60.0)
    assert world.refused == {}
    world.finish("a")
    assert world.granted == {"1": "n"}


def test_a_load_that_stands_still_is_given_up() -> None:
    """A public bug of this kind: llama-swap#92."""
    world = slow("a")
    world.ask("1")
    for _ in range(200):
        world.tick(1.0)
    assert world.refused["1"].failed.code == "model_load_failed"


def test_the_queue_is_bounded_and_says_when_to_come_back() -> None:
    world = one("a", in_flight=2, queue=3)
    for number in range(5):
        world.ask(str(number))
    assert not world.refused
    world.ask("5")
    refusal = world.refused["5"].failed
    assert refusal.code == "server_is_overloaded"
    assert isinstance(refusal.retry_after, int)
    assert refusal.retry_after >= 1


def test_a_cancelled_waiter_gives_its_place_back() -> None:
    world = one("a", in_flight=1, queue=1)
    world.ask("1")
    world.ask("2")
    world.cancel("2")
    world.ask("3")
    assert not world.refused
    world.end("1")
    assert world.granted == {"3": "n"}


def test_cancelling_at_any_point_leaves_nothing_behind() -> None:
    """Queued, loading, running (litellm#37140)."""
    world = slow("a", in_flight=1)
    world.ask("1")
    world.ask("2")
    world.cancel("1")
    world.finish("a")
    world.ask("3")
    world.cancel("2")
    world.cancel("3")
    assert world.scheduler.state.queues == {}
    assert world.scheduler.state.in_flight_on("n") == 0


def test_a_flooding_key_does_not_keep_another_from_being_served() -> None:
    """Neither from the queue nor from the next free places."""
    world = one("a", in_flight=4, queue=4)
    for number in range(20):
        world.ask(f"flood{number}", principal="flood")
    world.ask("quiet", principal="quiet")
    assert "quiet" not in world.refused
    world.end(next(iter(world.granted)))
    assert "quiet" in world.granted


def test_anonymous_requests_get_what_named_ones_leave() -> None:
    world = one("a", in_flight=1)
    world.ask("1", principal="k")
    world.ask("anonymous")
    world.ask("2", principal="k")
    world.end("1")
    assert world.granted == {"2": "n"}


def test_a_key_may_use_every_place_while_nobody_else_waits() -> None:
    world = one("a", in_flight=4)
    for number in range(4):
        world.ask(str(number), principal="k")
    assert len(world.granted) == 4


def test_waiting_too_long_for_a_place_is_refused_with_a_time() -> None:
    world = one("a", in_flight=1, queue_s=30.0)
    world.ask("1")
    world.ask("2")
    world.tick(31.0)
    assert world.refused["2"].reason == "queue_timeout"
    assert world.refused["2"].failed.retry_after


def test_a_client_without_a_stream_is_told_to_come_back_during_a_long_load() -> None:
    world = slow("a")
    world.ask("p")
    world.model_of["i"] = "a"
    impatient = Job("i", "a", world.now, chat(job_id="i"), patient=False)
    world._apply(world.scheduler.on_request(impatient, world.now))
    world.tick(61.0)
    assert world.refused["i"].failed.code == "model_loading"
    assert world.refused["i"].failed.retry_after
    assert "p" not in world.refused


def test_a_neuron_that_died_between_poll_and_dispatch_costs_its_clients_nothing() -> None:
    """The request is sent to the other copy, and the dead neuron gets nothing more (production-stack#420)."""
    world = World([FakeNeuron("m", models("a")), FakeNeuron("n", models("a"))])
    for name in ("m", "n"):
        world.neurons[name].models["a"].state, world.neurons[name].models["a"].devices = "ready", ["cpu0"]
    world.poll()
    world.ask("1")
    first = world.granted["1"]
    world.neurons[first].kill()
    world.breaks("1")
    assert world.granted["1"] != first
    assert world.scheduler.state.fleet.neurons[first].health == "down"


def test_early_failures_open_the_breaker_and_a_probe_closes_it() -> None:
    """Visible in the fleet; half open lets one through (production-stack#420)."""
    world = one("a", tries=10)
    world.ask("1")
    for _ in range(3):
        world.breaks("1")
        world.poll()
    neuron = world.scheduler.state.fleet.neurons["n"]
    assert neuron.breaker_state(world.now) == "open"
    assert world.granted == {}
    world.cancel("1")
    world.tick(2.5)
    world.ask("2")
    world.ask("3")
    assert world.granted == {"2": "n"}
    world.end("2")
    assert "3" in world.granted
    assert world.scheduler.state.fleet.neurons["n"].breaker_state(world.now) == "closed"


def test_a_request_is_tried_a_bounded_number_of_times() -> None:
    world = one("a", tries=2)
    world.ask("1")
    world.breaks("1")
    world.poll()
    assert world.granted == {"1": "n"}
    world.breaks("1")
    assert world.refused["1"].reason == "neuron_failed"


def test_a_fresh_gateway_spreads_over_the_copies() -> None:
    """A public bug of this kind: production-stack#1073."""
    world = World([FakeNeuron(name, models("a")) for name in "klm"])
    for neuron in world.neurons.values():
        neuron.models["a"].state, neuron.models["a"].devices = "ready", ["cpu0"]
    world.poll()
    for number in range(6):
        world.ask(str(number), text=f"conversation {number}")
    assert sorted(world.granted.values()) == ["k", "k", "l", "l", "m", "m"]


def test_a_conversation_of_a_drained_neuron_moves_and_then_stays() -> None:
    """A public bug of this kind: dynamo#11035."""
    world = World([FakeNeuron(name, models("a")) for name in "mn"])
    for neuron in world.neurons.values():
        neuron.models["a"].state, neuron.models["a"].devices = "ready", ["cpu0"]
    world.poll()
    world.ask("1", text="we talk")
    home = world.granted["1"]
    world.end("1")
    world._apply(world.scheduler.on_drain(home, True, world.now))
    world.ask("2", text="we talk")
    other = world.granted["2"]
    assert other != home
    world.end("2")
    world._apply(world.scheduler.on_drain(home, False, world.now))
    world.ask("3", text="we talk")
    assert world.granted["3"] == other


def test_a_loaded_model_that_cannot_decode_gets_no_requests() -> None:
    world = World([FakeNeuron("m", models("a")), FakeNeuron("n", models("a"))])
    bad = world.neurons["m"].models["a"]
    bad.state, bad.devices, bad.servable = "ready", ["cpu0"], False
    world.poll()
    world.tick(11.0)
    world.ask("1")
    assert world.granted == {"1": "n"}
    assert world.scheduler.state.fleet.neurons["m"].health == "degraded"


def test_a_neuron_that_comes_back_with_other_models_is_followed_within_one_poll() -> None:
    world = one("a", "b")
    world.ask("1", "a")
    world.end("1")
    neuron = world.neurons["n"]
    neuron.kill()
    neuron.restart()
    del neuron.models["a"]
    world.poll()
    world.ask("2", "a")
    assert world.refused["2"].failed.code == "unavailable" or "2" not in world.granted
    world.ask("3", "b")
    assert world.granted == {"3": "n"}


def test_a_neuron_that_is_lost_is_down_at_once_and_its_streams_break() -> None:
    world = one("a")
    world.ask("1")
    world.neurons["n"].hung = True
    world.poll()
    assert world.scheduler.state.fleet.neurons["n"].health == "down"
    assert AbortNeuron("n") in world.effects


def test_a_hot_model_gets_a_second_copy_in_free_memory_only() -> None:
    spread = card("a", replicas_max=2)
    world = World(
        [FakeNeuron(name, [FakeModel("a", card=spread), FakeModel("b")]) for name in "mn"], policy(in_flight=1)
    )
    world.ask("1", "a")
    world.ask("2", "a")
    world.tick()
    assert sorted(world.granted.values()) == ["m", "n"]
    assert [neuron.evictions for neuron in world.neurons.values()] == [[], []]


def test_a_minimum_of_copies_is_kept() -> None:
    world = World([FakeNeuron(name, [FakeModel("a", card=card("a", replicas_min=1))]) for name in "mn"])
    world.tick()
    assert loads(world) == ["a"]
    world.tick()
    assert loads(world) == ["a"]


def test_requests_with_a_common_beginning_meet_where_it_is_cached() -> None:
    world = World([FakeNeuron("m", models("a")), FakeNeuron("n", models("a"))])
    for neuron in world.neurons.values():
        neuron.models["a"].state, neuron.models["a"].devices = "ready", ["cpu0"]
    world.poll()
    long = "the same system prompt " * 400
    for number in range(4):
        world.ask(str(number), text=long + str(number))
        world.end(str(number))
        assert world.granted == {}
    granted = [effect.neuron for effect in world.effects if isinstance(effect, Grant)]
    assert len(set(granted)) == 1


def test_what_a_neuron_publishes_draws_its_conversations() -> None:
    world = World([FakeNeuron("m", models("a")), FakeNeuron("n", models("a"))])
    text = "a long history " * 500
    for neuron in world.neurons.values():
        neuron.models["a"].state, neuron.models["a"].devices = "ready", ["cpu0"]
    world.neurons["n"].models["a"].prefixes = prefix_hashes(chat("a", text))
    world.poll()
    world.ask("busy-elsewhere", text="something short")
    world.ask("1", text=text)
    assert world.granted["1"] == "n"


@pytest.mark.parametrize("strategy", ["lru", "priority"])
def test_the_least_recently_used_model_goes_first(strategy: str) -> None:
    world = World([FakeNeuron("n", models("a", "b", "c"), (200,))], policy(strategy=strategy))
    world.ask("1", "a")
    world.end("1")
    world.tick(5)
    world.ask("2", "b")
    world.end("2")
    world.tick(5)
    world.ask("3", "c")
    assert world.neurons["n"].evictions == ["a"]


def test_a_lower_class_does_not_displace_a_higher_one() -> None:
    high = FakeModel("a", card=card("a", residency_priority=300))
    world = World([FakeNeuron("n", [high, FakeModel("b")])], policy(strategy="priority"))
    world.ask("1", "a")
    world.end("1")
    world.ask("2", "b")
    assert "higher residency priority" in world.refused["2"].failed.message


def test_removed_neurons_get_nothing_new_and_added_ones_are_used() -> None:
    world = World([FakeNeuron("m", models("a")), FakeNeuron("n", models("a"))])
    world._apply(world.scheduler.on_neurons([NeuronEntry(name="n", endpoint="http://n")], world.now))
    world.ask("1")
    assert world.granted == {"1": "n"}


ELSEWHERE = NeuronEntry(name="m", endpoint="http://elsewhere")
N = NeuronEntry(name="n", endpoint="http://n")


def two_with_a_load_on_m() -> World:
    """m and n have a; a request waits for its load on m, which never ends."""
    world = World([FakeNeuron("m", models("a")), FakeNeuron("n", models("a"), [50])], slow_loads=True)
    world.ask("1")
    assert [order.neuron for order in world.open_orders] == ["m"]
    world.neurons["n"] = FakeNeuron("n", models("a"))
    world.neurons["n"].clock = world.clock
    world.poll("n")
    return world


@pytest.mark.parametrize("entries", [[N], [ELSEWHERE, N]], ids=["removed", "at another address"])
def test_who_waits_for_a_load_on_a_neuron_that_left_is_served_by_another(entries: list[NeuronEntry]) -> None:
    """They waited 150 s, until the load counted as stalled."""
    world = two_with_a_load_on_m()
    world._apply(world.scheduler.on_neurons(entries, world.now))
    assert [order.neuron for order in world.open_orders] == ["m", "n"]
    assert AbandonOrders("m") in world.effects
    world.open_orders.pop(0)
    world.finish("a")
    assert world.granted == {"1": "n"}


def test_an_answer_from_the_old_address_closes_no_order_to_the_new_one() -> None:
    world = two_with_a_load_on_m()
    world._apply(world.scheduler.on_neurons([ELSEWHERE], world.now))
    assert not world.scheduler.state.orders.all()
    assert world.refused == {}
    world.neurons["m"].restart()
    world.poll("m")
    assert [order.neuron for order in world.open_orders] == ["m", "m"]
    world.open_orders.pop(0)
    world.finish("a")
    assert world.granted == {"1": "m"}


def test_a_neuron_at_another_address_keeps_its_models_known_and_its_requests_running() -> None:
    world = one("a")
    world.ask("1")
    world._apply(world.scheduler.on_neurons([NeuronEntry(name="n", endpoint="http://elsewhere")], world.now))
    assert world.scheduler.state.fleet.neurons["n"].health == "down"
    world.ask("2")
    assert world.refused == {}
    world.neurons["n"].restart()
    world.poll()
    assert world.granted == {"1": "n", "2": "n"}
    assert AbortNeuron("n") not in world.effects
    world.end("1")


@pytest.mark.parametrize(
    "event",
    [
        lambda world: world.end("1"),
        lambda world: world.end("1", OutcomeKind.BROKEN_EARLY),
        lambda world: world.breaks("1"),
        lambda world: world.breaks("1", OutcomeKind.BROKEN_LATE),
        lambda world: world.cancel("1"),
        lambda world: world.tick(500.0),
        lambda world: world.poll(),
        lambda world: world.finish("b"),
        lambda world: world._apply(world.scheduler.on_unload("a", False, world.now)),
        lambda world: world._apply(world.scheduler.on_pin("a", True, world.now)),
        lambda world: world._apply(world.scheduler.on_drain("n", True, world.now)),
        lambda world: world._apply(world.scheduler.on_pushed("n", world.now)),
    ],
)
def test_nothing_that_still_comes_from_a_removed_neuron_is_an_error(event: Callable[[World], None]) -> None:
    world = World([FakeNeuron("n", models("a", "b"), [300])], slow_loads=True)
    world.ask("1", "a")
    world.finish("a")
    world.ask("2", "b")
    world._apply(world.scheduler.on_unload("a", False, world.now))
    world._apply(world.scheduler.on_neurons([], world.now))
    event(world)
    world.tick()
    world.end("1")
    assert not world.scheduler.state.orders.all()


def test_an_unload_by_an_operator_drains_and_later_requests_load_again() -> None:
    world = one("a")
    world.ask("1")
    world.end("1")
    world._apply(world.scheduler.on_unload("a", False, world.now))
    assert world.neurons["n"].models["a"].state == "unloaded"
    world.ask("2")
    assert loads(world) == ["a", "a"]


def unloading_a_beside_a_load_of_b() -> World:
    """The operator's word comes before the neuron has answered the order to load b."""
    world = World([FakeNeuron("n", models("a", "b"), [300])], slow_loads=True)
    world.ask("1", "a")
    world.finish("a")
    world.end("1")
    world.ask("2", "b")
    world._apply(world.scheduler.on_unload("a", False, world.now))
    return world


def test_an_unload_that_meets_an_unanswered_order_is_ordered_once_that_is_answered() -> None:
    """It was forgotten, and the operator told that it was under way."""
    world = unloading_a_beside_a_load_of_b()
    assert not any(isinstance(order, OrderUnload) for order in world.open_orders)
    world.finish("b")
    world.tick()
    world.finish("a")
    assert world.neurons["n"].models["a"].state == "unloaded"
    world.tick()
    assert world.open_orders == []


def test_an_unload_of_a_copy_that_goes_by_itself_is_no_order_against_the_next_one() -> None:
    world = unloading_a_beside_a_load_of_b()
    world.neurons["n"].unload(UnloadOrder("a", force=True))
    world.finish("b")
    world.tick()
    assert world.open_orders == []
    assert not world.scheduler.state.unwanted


def test_a_wish_for_a_model_is_fulfilled_without_taking_a_place() -> None:
    world = one("a", in_flight=1)
    world._apply(world.scheduler.on_request(Job("w", "a", world.now), world.now))
    assert world.resident == {"w": "n"}
    world.ask("1")
    assert world.granted == {"1": "n"}


def test_requests_of_any_context_size_never_reload() -> None:
    """The context comes from the profile; a request has no say in it (ollama#14364)."""
    world = one("a")
    for number in range(5):
        world.ask(str(number), text="x" * 10**number)
    assert loads(world) == ["a"]


def test_a_model_that_breaks_takes_no_other_model_of_its_neuron_away() -> None:
    """After three broken requests for one model the neuron got none for any."""
    world = World([FakeNeuron("n", models("a", "b"), [300])], policy(tries=10))
    world.ask("1", "a")
    for _ in range(3):
        world.breaks("1")
        world.poll()
    assert "1" not in world.granted
    world.ask("2", "b")
    assert world.granted == {"2": "n"}
    world.end("2")
    neuron = world.scheduler.state.fleet.neurons["n"]
    assert (neuron.breaker_state(world.now), list(neuron.breakers)) == ("open", ["a"])


def test_cancelled_and_finished_jobs_are_not_counted_against_the_neuron() -> None:
    world = one("a")
    world.ask("1")
    world.cancel("1")
    world.ask("2")
    world.end("2", OutcomeKind.FAILED)
    assert world.scheduler.state.fleet.neurons["n"].breakers == {}


def test_a_model_that_has_just_loaded_is_waited_for_until_it_is_proved() -> None:
    """Ready comes before the first heartbeat; taken for broken, the model was loaded on a second neuron at once."""
    world = World([FakeNeuron("n1", models("a")), FakeNeuron("n2", models("a"))], slow_loads=True)
    world.ask("1")
    fresh = world.neurons[world.open_orders[0].neuron].models["a"]
    fresh.servable = False
    world.finish("a")
    world.tick(1.0)
    assert loads(world) == ["a"]
    assert not world.granted
    fresh.servable = True
    world.poll()
    assert list(world.granted) == ["1"]


def test_a_model_that_stays_unproved_is_loaded_elsewhere() -> None:
    world = World([FakeNeuron("n1", models("a")), FakeNeuron("n2", models("a"))], slow_loads=True)
    world.ask("1")
    world.neurons[world.open_orders[0].neuron].models["a"].servable = False
    world.finish("a")
    world.tick(11.0)
    assert loads(world) == ["a", "a"]
