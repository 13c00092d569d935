"""Records of requests."""

from __future__ import annotations

import pytest

from cortex.wire.events import Failed, Started, TextDelta, Usage
from tests.serving.telemetry.meters import Clock, meter, run_plain


def test_a_finished_request_is_measured_from_its_arrival() -> None:
    record = run_plain(Clock()).finish(200)
    assert (record.ended, record.finish, record.neuron) == ("ok", "stop", "beast")
    assert record.ttft_s == pytest.approx(2.0)
    assert record.duration_s == pytest.approx(3.0)
    assert list(record.inter_token_s) == pytest.approx([0.5, 0.5])
    assert record.tokens_per_second == pytest.approx(2.0)


def test_a_request_that_never_started_was_refused() -> None:
    watched = meter(Clock())
    watched.feed([Failed("no_room", "pins fill the device")])
    record = watched.finish(503)
    assert (record.ended, record.code, record.ttft_s) == ("refused", "no_room", None)


def test_a_failure_after_the_start_is_an_error_and_keeps_its_counts() -> None:
    watched = meter(Clock())
    watched.feed([Started(10), TextDelta("a"), Failed("worker_died", "gone")])
    record = watched.finish(200)
    assert record.ended == "error"
    assert record.usage == Usage(prompt_tokens=10, completion_tokens=1)


def test_a_request_without_an_end_was_cancelled() -> None:
    watched = meter(Clock())
    watched.feed([Started(10)])
    assert watched.finish(499).ended == "cancelled"
