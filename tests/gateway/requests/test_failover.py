"""What a client has seen of its request decides how it may go on elsewhere."""

from __future__ import annotations

import pytest

from cortex.gateway.requests.failover import FailoverState, is_repeatable
from cortex.gateway.scheduling.effects import OutcomeKind
from cortex.wire.events import Event, Failed, Finished, Progress, Started, TextDelta, Tokens, Usage
from cortex.wire.inference import InferenceRequest, RerankRequest, Sampling


def request(**fields: object) -> InferenceRequest:
    return InferenceRequest(id="r", model="a", prompt="p", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "repeatable"),
    [
        ({}, False),
        ({"sampling": Sampling(temperature=0)}, True),
        ({"sampling": Sampling(temperature=0.7)}, False),
        ({"sampling": Sampling(temperature=0.7, seed=3)}, True),
        ({"sampling": Sampling(seed=-1)}, False),
        ({"sampling": Sampling(top_k=1)}, True),
        ({"sampling": Sampling(temperature=0), "n": 2}, False),
    ],
)
def test_what_can_be_repeated(fields: dict[str, object], repeatable: bool) -> None:
    assert is_repeatable(request(**fields)) is repeatable


def test_ranks_and_vectors_start_anew_but_never_move() -> None:
    assert not is_repeatable(RerankRequest("r", "a", "q", ["d"]))
    assert FailoverState(RerankRequest("r", "a", "q", ["d"])).may_move()


def test_a_moved_request_carries_the_tokens_its_client_has() -> None:
    attempt = FailoverState(request(sampling=Sampling(temperature=0), replay=[1]))
    first = attempt.request(0.0)
    assert isinstance(first, InferenceRequest)
    assert first.report_tokens
    attempt.feed([Started(5), Tokens([7, 8]), TextDelta("x")], "n")
    assert attempt.may_move()
    attempt.move()
    moved = attempt.request(0.0)
    assert isinstance(moved, InferenceRequest)
    assert moved.replay == [1, 7, 8]
    assert attempt.feed([Started(8), TextDelta("y"), Finished()], "m") == [
        TextDelta("y"),
        Finished(Usage(resumed=1), resumed=1),
    ]


def test_token_ids_are_for_the_file_that_they_came_from() -> None:
    attempt = FailoverState(request(sampling=Sampling(temperature=0)))
    assert attempt.begin("x")
    assert attempt.begin("y")
    attempt.feed([Started(5), Tokens([1]), TextDelta("x")], "n")
    assert not attempt.begin("x")
    assert attempt.begin("y")


def test_a_neuron_that_says_its_sampler_cannot_be_rebuilt_is_believed() -> None:
    attempt = FailoverState(request(sampling=Sampling(seed=3)))
    attempt.feed([Started(5, movable=False), TextDelta("x")], "n")
    assert not attempt.may_move()


def test_an_echo_that_its_client_has_is_not_asked_for_again() -> None:
    """It leaves before the prompt is computed, so there may be no tokens yet to replay."""
    attempt = FailoverState(request(echo=True, sampling=Sampling(temperature=0)))
    attempt.feed([Started(5), TextDelta("p")], "n")
    attempt.move()
    moved = attempt.request(0.0)
    assert isinstance(moved, InferenceRequest)
    assert (moved.echo, moved.replay) == (False, [])


def test_tokens_and_progress_are_shown_to_those_who_asked_only() -> None:
    events: list[Event] = [Progress("prefill", 1, 2), Started(5), Tokens([1]), TextDelta("x")]
    silent = FailoverState(request(sampling=Sampling(temperature=0)))
    assert silent.feed(list(events), "n") == [Started(5, neuron="n"), TextDelta("x")]
    asking = FailoverState(request(report_progress=True, report_tokens=True))
    assert asking.feed(list(events), "n") == [events[0], Started(5, neuron="n"), *events[2:]]


def test_a_sampled_stream_with_output_cannot_move() -> None:
    attempt = FailoverState(request(sampling=Sampling(temperature=0.8)))
    attempt.feed([Started(5)], "n")
    assert attempt.may_move()
    attempt.feed([TextDelta("x")], "n")
    assert not attempt.may_move()


def test_breaking_off_before_the_first_event_counts_against_the_neuron() -> None:
    attempt = FailoverState(request())
    assert attempt.broken("why").kind is OutcomeKind.BROKEN_EARLY
    attempt.feed([Started(5)], "n")
    assert attempt.broken("why").kind is OutcomeKind.BROKEN_LATE


def test_the_death_of_a_worker_does_not_count_against_its_neuron() -> None:
    attempt = FailoverState(request())
    attempt.feed([Failed("worker_died", "gone")], "n")
    assert attempt.broken("why").kind is OutcomeKind.BROKEN_LATE


def test_a_failure_is_held_back_for_the_caller_to_judge() -> None:
    attempt = FailoverState(request())
    assert attempt.feed([Started(5), Failed("worker_died", "x")], "n") == [Started(5, neuron="n")]
    assert attempt.end == Failed("worker_died", "x")


def test_a_deadline_shrinks_by_the_time_spent_here() -> None:
    attempt = FailoverState(request(deadline_s=10.0))
    assert attempt.request(4.0).deadline_s == 6.0
    assert attempt.request(40.0).deadline_s == 0.0
