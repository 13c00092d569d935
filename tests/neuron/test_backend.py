"""Requests through a neuron over fake workers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cortex.neuron.workers.active_requests import events_of
from cortex.wire.events import Event, Failed, Finished, Started, TextDelta
from tests.neuron.conftest import until


async def test_a_request_loads_its_model_and_is_answered(bench) -> None:
    async with bench("m") as neuron:
        events = await neuron.ask("m", "hello")
        assert TextDelta("echo hello") in events
        assert isinstance(events[-1], Finished)
        assert neuron.state("m") == "ready"


async def test_twenty_cold_requests_make_one_load(bench) -> None:
    async with bench("slow-m") as neuron:
        answers = await asyncio.gather(*(neuron.ask("slow-m", f"p{n}") for n in range(20)))
        assert all(isinstance(events[-1], Finished) for events in answers)
        (worker,) = neuron.registry.pool.all()
        assert worker.load_cycles == 1


async def test_a_request_is_retried_when_its_worker_dies_before_the_first_word(bench, tmp_path: Path) -> None:
    """One Started, one Finished, and nobody notices."""
    async with bench("m") as neuron:
        events = await neuron.ask("m", f"crash-once:{tmp_path / 'crashed'}")
        assert sum(isinstance(event, Started) for event in events) == 1
        assert isinstance(events[-1], Finished)


async def test_a_request_that_finds_the_link_to_a_dying_worker_closed_waits_for_the_next_worker(bench) -> None:
    async with bench("m") as neuron:
        await neuron.ask("m", "hello")
        (worker,) = neuron.registry.pool.all()
        worker._link.close()
        assert worker.state == "ready"
        assert isinstance((await neuron.ask("m", "again"))[-1], Finished)
        assert worker.restarts == 1


async def test_a_request_that_kills_three_workers_gets_an_error(bench) -> None:
    async with bench("m") as neuron:
        events = await neuron.ask("m", "crash")
        assert isinstance(events[-1], Failed)
        assert events[-1].code in ("worker_died", "model_load_failed")
        assert sum(isinstance(event, Failed | Finished) for event in events) == 1


async def test_a_gateways_request_that_kills_its_worker_is_left_to_the_gateway(bench) -> None:
    """Tried again by both, one prompt killed nine workers."""
    async with bench("m") as neuron:
        batches: list[list[Event]] = []
        await neuron.neuron.backend.relay(
            neuron.request("m", "crash"), lambda item, events: batches.append(list(events or events_of(item)))
        )
        end = batches[-1][-1]
        assert isinstance(end, Failed)
        assert end.code == "worker_died"
        (worker,) = neuron.registry.pool.all()
        assert worker.restarts == 1


async def test_an_answer_cut_by_a_death_fails_and_the_next_request_is_served(bench) -> None:
    async with bench("m") as neuron:
        events = await neuron.ask("m", "half")
        assert isinstance(events[-1], Failed)
        assert events[-1].code == "worker_died"
        assert isinstance((await neuron.ask("m", "again"))[-1], Finished)


async def test_cancelling_the_task_cancels_in_the_worker(bench, tmp_path: Path) -> None:
    async with bench("m") as neuron:
        request = neuron.request("m", f"wait:{tmp_path / 'never'}")
        events: list[Event] = []
        serving = asyncio.create_task(neuron.neuron.backend.serve(request, events.extend))
        await until(lambda: any(isinstance(event, Started) for event in events))
        serving.cancel()
        await asyncio.wait({serving})
        (worker,) = neuron.registry.pool.all()
        await until(lambda: f"cancelled {request.id}" in worker.log_tail)
        assert neuron.registry.models["m"].running == 0
        assert len(neuron.registry.active_requests) == 0


async def test_a_waiter_that_leaves_during_the_load_does_not_stop_it(bench) -> None:
    async with bench("slow-m") as neuron:
        events: list[Event] = []
        serving = asyncio.create_task(neuron.neuron.backend.serve(neuron.request("slow-m"), events.extend))
        await until(lambda: events)
        serving.cancel()
        await until(lambda: neuron.state("slow-m") == "ready")
        assert not neuron.registry.models["slow-m"].busy


async def test_a_deadline_ends_the_wait_for_a_load(bench) -> None:
    async with bench("stall-m") as neuron:
        events = await neuron.ask("stall-m", deadline_s=0.3)
        assert isinstance(events[-1], Failed)
        assert events[-1].code == "timeout"


async def test_an_unknown_model_is_an_event_naming_those_there_are(bench) -> None:
    async with bench("m") as neuron:
        (event,) = await neuron.ask("nope")
        assert isinstance(event, Failed)
        assert event.code == "model_not_found"
        assert "m" in event.message
