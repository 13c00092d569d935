"""The nearest valid key is suggested if one is similar enough."""

from __future__ import annotations

import pytest

from cortex.config.hints import nearest


@pytest.mark.parametrize(
    ("word", "meant"), [("listn", "listen"), ("endpont", "endpoint"), ("Listen", "listen"), ("quux", None)]
)
def test_nearest(word: str, meant: str | None) -> None:
    assert nearest(word, ["listen", "endpoint", "tries"]) == meant
