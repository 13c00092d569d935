"""Percentiles, and what a summary counts."""

from __future__ import annotations

from cortex.bench.statistics import Outcome, percentile, summarise


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 50) == 50.0
    assert percentile(values, 99) == 99.0
    assert percentile([3.0], 99) == 3.0
    assert percentile([], 50) == 0.0


def test_a_summary_leaves_failed_requests_out_of_its_figures() -> None:
    good = Outcome("g", 0.0, [0.5, 0.6, 0.8], 1.0, prompt_tokens=100, cached_tokens=50, completion_tokens=10)
    bad = Outcome("g", 0.0, [], 9.0, error="no")
    (summary,) = summarise([good, bad])
    assert (summary.requests, summary.errors) == (2, 1)
    assert summary.ttft_p50_ms == 500.0
    assert abs(summary.gap_p99_ms - 200) < 1e-6
    assert summary.tokens_per_second == 10.0
    assert summary.cached_share == 0.5
