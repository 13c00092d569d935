"""Figures as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from cortex.bench.figures import Summary

__all__ = ["table_of"]


def table_of(title: str, summaries: Sequence[Summary]) -> Table:
    """One row per group; waits in milliseconds."""
    table = Table(title=title)
    for column in (
        "",
        "requests",
        "errors",
        "TTFT p50",
        "p99",
        "gap p50",
        "p99",
        "tok/s",
        "prompt",
        "cached",
        "output",
    ):
        table.add_column(column, justify="left" if not column else "right")
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
