"""The table of `cortex bench`."""

from __future__ import annotations

import io

from rich.console import Console

from cortex.bench.report import summary_table
from cortex.bench.statistics import Outcome, summarise


def test_a_table_with_large_numbers_fits_80_characters() -> None:
    slow = Outcome(
        "arrival", 0.0, [99.5, 199.5], 200.0, prompt_tokens=10**6, cached_tokens=10**6, completion_tokens=10**6
    )
    text = io.StringIO()
    Console(file=text, width=200).print(summary_table(summarise([slow])))
    assert "99500" in text.getvalue()
    assert "100%" in text.getvalue()
    assert max(len(line.rstrip()) for line in text.getvalue().splitlines()) <= 80
