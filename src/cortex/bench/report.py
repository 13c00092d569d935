"""The table that `cortex bench` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from cortex.bench.statistics import Summary

__all__ = ["summary_table"]


def summary_table(summaries: Sequence[Summary]) -> Table:
    """One row per group, no wider than 80 characters; waits in milliseconds."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    for column in (
        "sent",
        "failed",
        "TTFT\np50",
        "\np99",
        "gap\np50",
        "\np99",
        "tok/s",
        "prompt",
        "cached",
        "output",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for s in summaries:
        table.add_row(
            s.group,
            str(s.requests),
            str(s.errors),
            f"{s.ttft_p50_ms:.0f}",
            f"{s.ttft_p99_ms:.0f}",
            f"{s.gap_p50_ms:.1f}",
            f"{s.gap_p99_ms:.1f}",
            f"{s.tokens_per_second:.1f}",
            str(s.prompt_tokens),
            f"{s.cached_share:.0%}",
            str(s.completion_tokens),
        )
    return table
