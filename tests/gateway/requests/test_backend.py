"""A request's way through the gateway: what its client sees when neurons break, stall or are slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from cortex.wire.events import ChoiceFinished, Event, Failed, Finished, Progress, Started, TextDelta, Tokens, Usage
from cortex.wire.inference import EmbeddingRequest, InferenceRequest, Request, Sampling
from cortex.wire.status import Limits, ModelCard
from tests.fake_neuron import FakeNeuron, chat, words
from tests.gateway.harness import Fleet, fleet_of, text_of
from tests.gateway.scheduling.world import models, policy

WHOLE = "w0 w1 w2 w3 w4 "


def loaded(name: str, *names: str) -> FakeNeuron:
    neuron = FakeNeuron(name, models(*names), (1000,))
    for model in neuron.models.values():
        model.state, model.devices = "ready", ["cpu0"]
    return neuron


def sampled(**sampling: float) -> InferenceRequest:
    return msgspec.structs.replace(chat(), sampling=msgspec.convert(sampling, Sampling))


def assert_at_rest(fleet: Fleet) -> None:
    """All gauges at zero."""
    assert fleet.loop.scheduler.state.tickets() == []
    assert fleet.mailboxes.streams == 0
    for neuron in fleet.neurons.by_name.values():
        assert all(model.running == 0 for model in neuron.models.values())


async def test_a_loaded_models_answer_passes_through_unchanged() -> None:
    async with fleet_of(loaded("n", "a")) as fleet:
        events = await fleet.ask(chat())
        assert text_of(events) == WHOLE
        assert_at_rest(fleet)


async def test_the_neuron_is_named_in_the_answers_start() -> None:
    async with fleet_of(loaded("n", "a")) as fleet:
        started = [event for event in await fleet.ask(chat()) if isinstance(event, Started)]
        assert [event.neuron for event in started] == ["n"]


async def test_a_cold_request_loads_and_is_answered() -> None:
    async with fleet_of(FakeNeuron("n", models("a"))) as fleet:
        assert text_of(await fleet.ask(chat())) == WHOLE
        assert fleet.neurons.by_name["n"].loads == ["a"]


async def test_twenty_cold_requests_share_one_load() -> None:
    """A public bug of this kind: lmstudio-bug-tracker#1751."""
    async with fleet_of(FakeNeuron("n", models("a"))) as fleet:
        answers = await asyncio.gather(*(fleet.ask(chat(job_id=str(number))) for number in range(20)))
        assert [text_of(answer) for answer in answers] == [WHOLE] * 20
        assert fleet.neurons.by_name["n"].loads == ["a"]
        assert_at_rest(fleet)


async def test_progress_of_a_load_reaches_the_waiting_client() -> None:
    async with fleet_of(FakeNeuron("n", models("a"))) as fleet:
        fleet.neurons.loading = asyncio.Event()
        asking = asyncio.create_task(fleet.ask(chat()))
        await fleet.settled()
        fleet.neurons.by_name["n"].models["a"].progress = 0.5
        fleet.see("n")
        fleet.tick()
        fleet.neurons.loading.set()
        events = await asking
        assert Progress("loading", 500, 1000) in events
        assert text_of(events) == WHOLE


async def test_a_client_that_leaves_while_loading_does_not_stop_the_load() -> None:
    async with fleet_of(FakeNeuron("n", models("a"))) as fleet:
        fleet.neurons.loading = asyncio.Event()
        leaver = asyncio.create_task(fleet.ask(chat(job_id="leaver")))
        await fleet.settled()
        leaver.cancel()
        stayer = asyncio.create_task(fleet.ask(chat(job_id="stayer")))
        await fleet.settled()
        fleet.neurons.loading.set()
        assert text_of(await stayer) == WHOLE
        assert fleet.neurons.by_name["n"].loads == ["a"]
        assert_at_rest(fleet)


@pytest.mark.parametrize("frames", [0, 1, 3])
async def test_a_client_that_leaves_frees_the_neuron_at_once(frames: int) -> None:
    """Before the first event, after it, in the middle (litellm#37140)."""
    neuron = loaded("n", "a")
    neuron.gate = asyncio.Event()
    async with fleet_of(neuron) as fleet:
        gate, seen = neuron.gate, 0

        def emit(events: Sequence[Event]) -> None:
            nonlocal seen
            seen += 1
            if seen == frames:
                asking.cancel()
            else:
                gate.set()

        asking = asyncio.create_task(fleet.backend.serve(chat(), emit))
        if not frames:
            await asyncio.sleep(0)
            asking.cancel()
        await asyncio.wait({asking})
        assert asking.cancelled()
        await fleet.settled()
        assert_at_rest(fleet)


async def test_a_neuron_that_dies_before_dispatch_is_replaced_unseen() -> None:
    """A public bug of this kind: production-stack#420."""
    m, n = loaded("m", "a"), loaded("n", "a")
    async with fleet_of(m, n) as fleet:
        m.kill()
        answers = [text_of(await fleet.ask(chat(job_id=str(number), text=str(number)))) for number in range(4)]
        assert answers == [WHOLE] * 4
        assert fleet.loop.scheduler.state.fleet.neurons["m"].health == "down"


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 0.8, "seed": 7}], ids=["greedy", "seeded"])
async def test_a_repeatable_stream_moves_to_another_neuron_without_a_seam(sampling: dict[str, float]) -> None:
    m, n = loaded("m", "a"), loaded("n", "a")
    m.die_after = n.die_after = 3
    async with fleet_of(m, n) as fleet:
        asking = asyncio.create_task(fleet.ask(sampled(**sampling)))
        while m.alive and n.alive:  # noqa: ASYNC110 - a double has no events
            await asyncio.sleep(0)
        survivor = m if m.alive else n
        survivor.die_after = None
        events = await asking
        assert text_of(events) == WHOLE
        assert sum(isinstance(event, Started) for event in events) == 1
        assert not any(isinstance(event, Tokens) for event in events)
        end = events[-1]
        assert isinstance(end, Finished)
        assert end.resumed == 1
        moved = survivor.seen[-1]
        assert isinstance(moved, InferenceRequest)
        assert moved.replay == [0, 1]
        assert_at_rest(fleet)


async def test_a_stream_does_not_move_to_another_file() -> None:
    """The same name, another quantisation or conversion: the tokens so far would mean something else there."""
    m, n = loaded("m", "a"), loaded("n", "a")
    for neuron in (m, n):
        neuron.models["a"].card = ModelCard("a", Limits(4096), gguf_hash=neuron.name)
        neuron.die_after = 3
    async with fleet_of(m, n) as fleet:
        end = (await fleet.ask(chat(temperature=0)))[-1]
        assert isinstance(end, Failed)
        assert "same file" in end.message
        assert len(m.seen) + len(n.seen) == 1
        await fleet.settled()
        assert_at_rest(fleet)


async def test_a_stream_whose_sampler_cannot_be_rebuilt_ends_with_an_error() -> None:
    """Mirostat from the model's profile, say: only the neuron knows."""
    m, n = loaded("m", "a"), loaded("n", "a")
    for neuron in (m, n):
        neuron.script = lambda request: [[Started(7, movable=False)], *words(request)[1:]]
        neuron.die_after = 3
    async with fleet_of(m, n) as fleet:
        assert isinstance((await fleet.ask(sampled(temperature=0.8, seed=7)))[-1], Failed)


async def test_a_sampled_stream_that_breaks_ends_with_an_error() -> None:
    """It can't be repeated on another neuron: its client is told."""
    m, n = loaded("m", "a"), loaded("n", "a")
    m.die_after = n.die_after = 3
    async with fleet_of(m, n) as fleet:
        events = await fleet.ask(chat(temperature=0.8))
        end = events[-1]
        assert isinstance(end, Failed)
        assert end.code == "unavailable"
        assert text_of(events) == "w0 w1 "
        await fleet.settled()
        assert_at_rest(fleet)


async def test_a_sampled_request_without_output_yet_starts_anew() -> None:
    m, n = loaded("m", "a"), loaded("n", "a")
    async with fleet_of(m, n) as fleet:
        m.die_after = 1
        for number in range(4):
            assert text_of(await fleet.ask(chat(job_id=str(number), text=str(number), temperature=0.8))) == WHOLE


async def test_an_error_every_neuron_would_repeat_is_not_retried() -> None:
    def refuse(request: Request) -> list[list[Event]]:
        return [[Failed("context_length_exceeded", "10 of 5 tokens")]]

    m, n = loaded("m", "a"), loaded("n", "a")
    m.script = n.script = refuse
    async with fleet_of(m, n) as fleet:
        assert await fleet.ask(chat()) == [Failed("context_length_exceeded", "10 of 5 tokens")]
        assert len(m.seen) + len(n.seen) == 1
        assert_at_rest(fleet)


async def test_a_dead_worker_is_answered_by_another_neuron() -> None:
    def die(request: Request) -> list[list[Event]]:
        return [[Failed("worker_died", "SIGKILL")]]

    m, n = loaded("m", "a"), loaded("n", "a")
    m.script = die
    async with fleet_of(m, n) as fleet:
        for number in range(3):
            assert text_of(await fleet.ask(chat(job_id=str(number), text=str(number)))) == WHOLE


async def test_tries_are_bounded_and_the_last_reason_is_told() -> None:
    def die(request: Request) -> list[list[Event]]:
        return [[Failed("worker_died", "out of luck")]]

    neuron = loaded("n", "a")
    neuron.script = die
    async with fleet_of(neuron, rules=policy(tries=2)) as fleet:
        (end,) = await fleet.ask(chat())
        assert isinstance(end, Failed)
        assert "out of luck" in end.message
        assert len(neuron.seen) == 2


async def test_a_stalled_stream_is_broken_off() -> None:
    """Silence between tokens beyond the limit; a stream that sends is never cut."""
    neuron = loaded("n", "a")
    neuron.gate = asyncio.Event()
    async with fleet_of(neuron) as fleet:
        asking = asyncio.create_task(fleet.ask(chat()))
        await fleet.settled()
        fleet.mailboxes.break_stalled(fleet.clock.advance(50.0), 60.0)
        await fleet.settled()
        assert not asking.done()
        neuron.script = lambda request: [[Failed("worker_died", "again")]]
        fleet.mailboxes.break_stalled(fleet.clock.advance(60.0), 60.0)
        (*_, end) = await asking
        assert isinstance(end, Failed)


async def test_requests_on_a_neuron_that_hangs_are_broken_off_when_it_is_down() -> None:
    m, n = loaded("m", "a"), loaded("n", "a")
    m.gate = asyncio.Event()
    n.gate = asyncio.Event()
    async with fleet_of(m, n) as fleet:
        asking = asyncio.create_task(fleet.ask(chat(temperature=0)))
        await fleet.settled()
        hung = m if m.seen else n
        (n if hung is m else m).gate = None
        fleet.loop.post(lambda scheduler, now: scheduler.on_unreachable(hung.name, "no answer", now))
        assert text_of(await asking) == WHOLE


async def test_an_operators_cancel_ends_waiting_and_running_requests() -> None:
    neuron = loaded("n", "a")
    neuron.gate = asyncio.Event()
    async with fleet_of(neuron, rules=policy(in_flight=1)) as fleet:
        tasks = [asyncio.create_task(fleet.ask(chat(job_id=name))) for name in ("running", "waiting")]
        await fleet.settled()
        assert fleet.mailboxes.cancel("running")
        assert fleet.mailboxes.cancel("waiting")
        for task in tasks:
            end = (await task)[-1]
            assert isinstance(end, Failed)
            assert end.code == "forbidden"
        assert not fleet.mailboxes.cancel("running")
        await fleet.settled()
        assert_at_rest(fleet)


async def test_vectors_go_the_same_way() -> None:
    neuron = loaded("n", "a")
    neuron.script = lambda request: [[Started(3)], [Finished(Usage(prompt_tokens=3))]]
    async with fleet_of(neuron) as fleet:
        events = await fleet.ask(EmbeddingRequest("e", "a", ["text"]))
        assert isinstance(events[-1], Finished)


async def test_a_clients_deadline_counts_from_its_arrival_at_the_gateway() -> None:
    async with fleet_of(FakeNeuron("n", models("a"))) as fleet:
        fleet.neurons.loading = asyncio.Event()
        request = InferenceRequest(id="r", model="a", prompt="x", deadline_s=10.0)
        asking = asyncio.create_task(fleet.ask(request))
        await fleet.settled()
        fleet.clock.advance(4.0)
        fleet.neurons.loading.set()
        await asking
        (seen,) = fleet.neurons.by_name["n"].seen
        assert seen.deadline_s == 6.0


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_long_load_sends_those_away_who_see_no_progress(streamed: bool) -> None:
    async with fleet_of(FakeNeuron("n", models("a"))) as fleet:
        fleet.neurons.loading = asyncio.Event()
        request = InferenceRequest(id="r", model="a", prompt="x", streamed=streamed)
        asking = asyncio.create_task(fleet.ask(request))
        await fleet.settled()
        fleet.tick(61.0)
        await fleet.settled()
        assert asking.done() is not streamed
        fleet.neurons.loading.set()
        end = (await asking)[-1]
        if streamed:
            assert isinstance(end, Finished)
        else:
            assert isinstance(end, Failed)
            assert (end.code, end.retry_after is None) == ("model_loading", False)


async def test_several_frames_of_one_read_stay_one_batch() -> None:
    neuron = loaded("n", "a")
    neuron.script = lambda request: [
        [Started(1), TextDelta("a"), TextDelta("b"), TextDelta("c"), ChoiceFinished("stop"), Finished()]
    ]
    async with fleet_of(neuron) as fleet:
        batches: list[Sequence[Event]] = []
        await fleet.backend.serve(chat(), batches.append)
        assert len(batches) == 1


async def test_a_gateway_restart_loses_no_loaded_model() -> None:
    """The neurons are the truth: a fresh gateway over them loads nothing."""
    neuron = FakeNeuron("n", models("a", "b"), (300,))
    async with fleet_of(neuron) as fleet:
        await fleet.ask(chat("a"))
        await fleet.ask(chat("b"))
    async with fleet_of(neuron) as fleet:
        assert text_of(await fleet.ask(chat("a"))) == WHOLE
        assert text_of(await fleet.ask(chat("b"))) == WHOLE
    assert neuron.loads == ["a", "b"]


async def test_two_gateways_over_one_neuron_do_not_fight() -> None:
    """Loads carry the state they were decided on; whoever was overtaken looks again. Both get their answers."""
    neuron = FakeNeuron("n", models("a", "b"))
    rules = policy(in_flight=4)
    async with fleet_of(neuron, rules=rules) as one, fleet_of(neuron, rules=rules) as two:
        two.loop.clock = one.clock
        neuron.clock = one.clock
        one.neurons.drains = two.neurons.drains = True

        async def flow(fleet: Fleet, model: str, tag: str) -> list[str]:
            return [text_of(await fleet.ask(chat(model, job_id=f"{tag}{number}"))) for number in range(5)]

        flows = asyncio.gather(flow(one, "a", "x"), flow(two, "b", "y"))
        for _ in range(2000):
            if flows.done():
                break
            one.tick(0.2)
            two.loop.post(lambda scheduler, now: scheduler.on_tick(now))
            await fleet_settle(one, two)
        assert await flows == [[WHOLE] * 5] * 2


async def fleet_settle(*fleets: Fleet) -> None:
    for fleet in fleets:
        fleet.see("n")
        await fleet.settled()
