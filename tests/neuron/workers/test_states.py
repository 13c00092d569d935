"""Transitions of a worker process, and the pause before it is started again."""

from __future__ import annotations

import pytest

from cortex.neuron.workers.states import IllegalTransition, WorkerEvent, backoff_s, next_state


def test_an_exit_is_a_death_unless_it_was_requested() -> None:
    assert next_state("ready", WorkerEvent.EXITED) == "dead"
    assert next_state("starting", WorkerEvent.EXITED) == "dead"
    assert next_state(next_state("ready", WorkerEvent.DRAIN), WorkerEvent.EXITED) == "stopped"


@pytest.mark.parametrize(
    ("state", "event"), [("stopped", WorkerEvent.EXITED), ("ready", WorkerEvent.SPAWNED), ("dead", WorkerEvent.READY)]
)
def test_an_impossible_event_is_named_with_its_state(state, event: WorkerEvent) -> None:
    with pytest.raises(IllegalTransition, match=f"{event.name} in state {state}"):
        next_state(state, event)


def test_the_pause_doubles_up_to_a_limit() -> None:
    assert [backoff_s(deaths) for deaths in (0, 1, 2, 3, 50)] == [0.0, 0.25, 0.5, 1.0, 30.0]
