from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cortex.serving.telemetry.metrics import RequestMetrics
from cortex.serving.telemetry.records import RequestMeter
from cortex.wire.events import ChoiceFinished, Failed, Finished, Progress, Started, TextDelta, Usage


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def meter(clock: Clock) -> RequestMeter:
    return RequestMeter("r1", "openai_chat", "m", "alice", clock)


def run_plain(clock: Clock) -> RequestMeter:
    watched = meter(clock)
    watched.feed([Progress("loading")])
    clock.now += 2.0
    watched.feed([Started(10, 4, "beast")])
    watched.feed([TextDelta("a")])
    clock.now += 1.0
    watched.feed([TextDelta("b"), TextDelta("c")])
    watched.feed([ChoiceFinished("stop"), Finished(usage=Usage(10, 4, 3, 0))])
    return watched


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


def samples(metrics: RequestMetrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def test_metrics_count_what_the_record_says() -> None:
    metrics = RequestMetrics({"m"}.__contains__)
    metrics.observe(run_plain(Clock()).finish(200))
    found = samples(metrics)
    assert found["cortex_requests_total", "openai_chat", "m", "beast", "200"] == 1
    assert found["cortex_tokens_total", "cached", "m"] == 4
    assert found["cortex_time_to_first_token_seconds_count", "m"] == 1
    assert found["cortex_inter_token_seconds_count", "m"] == 2


def test_a_scrape_sees_what_came_after_the_last_one() -> None:
    metrics = RequestMetrics({"m"}.__contains__)
    for count in (1, 2, 3):
        metrics.observe(run_plain(Clock()).finish(200))
        assert samples(metrics)["cortex_requests_total", "openai_chat", "m", "beast", "200"] == count


def test_models_share_one_head_per_family() -> None:
    metrics = RequestMetrics(lambda _: True)
    for model in ("a", "b"):
        watched = RequestMeter("r", "openai_chat", model, None, Clock())
        watched.feed([Started(1), ChoiceFinished("stop"), Finished()])
        metrics.observe(watched.finish(200))
    assert metrics.exposition().count(b"# TYPE cortex_requests_total counter") == 1
    assert {key[2] for key in samples(metrics) if key[0] == "cortex_requests_total"} == {"a", "b"}


def test_invented_model_names_make_no_series() -> None:
    metrics = RequestMetrics({"other"}.__contains__)
    for _ in range(3):
        metrics.observe(run_plain(Clock()).finish(404))
    assert {key[-1] for key in samples(metrics) if key[0] == "cortex_time_to_first_token_seconds_count"} == {"unknown"}
