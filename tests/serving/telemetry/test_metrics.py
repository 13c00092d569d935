"""Metrics of requests."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from cortex.serving.telemetry.metrics import RequestMetrics
from cortex.serving.telemetry.records import RequestMeter
from cortex.wire.events import ChoiceFinished, Finished, Started
from tests.serving.telemetry.meters import Clock, run_plain


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
