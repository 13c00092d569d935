"""The clockwork of an answer, with the clock in the test's hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.config.settings import LimitsConfig
from cortex.serving.exchange.timeouts import Due, Pacing

LIMITS = LimitsConfig(request_s=3600, first_event_s=20, keepalive_s=5, stall_s=120)


def begin(streams: bool = True, keepalive_s: float | None = None) -> Pacing:
    return Pacing.begin(LIMITS, 100.0, streams, keepalive_s)


def test_nothing_is_due_while_the_answer_is_quick() -> None:
    pacing = begin()
    assert pacing.due(119.9) is Due.NOTHING


def test_headers_are_due_when_the_first_event_takes_too_long() -> None:
    assert begin().due(120.0) is Due.OPEN


def test_a_sign_of_life_is_due_in_every_silent_interval() -> None:
    pacing = begin()
    for now in range(120, 700, 5):
        assert pacing.due(now) in {Due.OPEN, Due.KEEPALIVE}
        pacing.on_write(now)
        assert pacing.due(now + 4.9) is Due.NOTHING


def test_writing_puts_the_keepalive_off() -> None:
    pacing = begin()
    pacing.on_write(101)
    pacing.on_write(104)
    assert pacing.due(108.9) is Due.NOTHING
    assert pacing.due(109) is Due.KEEPALIVE


def test_a_long_prefill_is_no_stall() -> None:
    """Ten minutes before the first token: keep-alives, and no error."""
    pacing = begin()
    pacing.on_write(101)
    assert pacing.due(700) is Due.KEEPALIVE


def test_silence_after_the_first_piece_is_a_stall() -> None:
    pacing = begin()
    pacing.on_events(110, generated=True)
    assert pacing.due(229) is not Due.STALLED
    assert pacing.due(230) is Due.STALLED


def test_progress_breaks_the_silence_of_a_stream_that_is_moved() -> None:
    pacing = begin()
    pacing.on_events(110, generated=True)
    pacing.on_events(200, generated=False)
    assert pacing.due(300) is not Due.STALLED
    assert pacing.due(320) is Due.STALLED


def test_progress_alone_does_not_start_the_stall_clock() -> None:
    pacing = begin()
    pacing.on_write(101)
    pacing.on_events(110, generated=False)
    assert pacing.due(400) is Due.KEEPALIVE


def test_a_long_answer_that_goes_on_is_never_stalled() -> None:
    pacing = begin()
    for now in range(101, 3000, 100):
        pacing.on_write(now)
        pacing.on_events(now, generated=True)
        assert pacing.due(now + 1) is Due.NOTHING


def test_the_whole_request_has_a_deadline() -> None:
    pacing = begin()
    pacing.on_events(3699, generated=True)
    assert pacing.due(3700) is Due.DEADLINE


def test_an_answer_that_does_not_stream_gets_no_signs_of_life() -> None:
    pacing = begin(streams=False)
    assert pacing.due(200) is Due.NOTHING
    pacing.on_events(200, generated=True)
    assert pacing.due(320) is Due.STALLED


@pytest.mark.parametrize("wish", [-1, 0])
def test_a_client_can_do_without_keepalives(wish: float) -> None:
    pacing = begin(keepalive_s=wish)
    pacing.on_write(101)
    assert pacing.due(2000) is Due.NOTHING


def test_a_client_can_choose_its_interval() -> None:
    pacing = begin(keepalive_s=1)
    pacing.on_write(101)
    assert pacing.due(102) is Due.KEEPALIVE


@given(st.lists(st.tuples(st.sampled_from(["write", "generate"]), st.floats(0, 30)), max_size=30), st.booleans())
def test_whoever_sleeps_until_next_at_is_never_late(happenings: list[tuple[str, float]], streams: bool) -> None:
    """Between two wake-ups things happen; still, nothing falls due long before the next one."""
    pacing = Pacing.begin(LIMITS, 0.0, streams, None)
    now = 0.0
    wake = pacing.next_at(now)
    for what, pause in happenings:
        now += pause
        while wake < now:
            due = pacing.due(wake)
            if due in {Due.STALLED, Due.DEADLINE}:
                return
            if due is not Due.NOTHING:
                pacing.on_write(wake)
            assert pacing.due(wake) is Due.NOTHING
            wake = pacing.next_at(wake)
        assert pacing.due(now - 1e-6) is Due.NOTHING
        if what == "write":
            pacing.on_write(now)
        else:
            pacing.on_write(now)
            pacing.on_events(now, generated=True)
