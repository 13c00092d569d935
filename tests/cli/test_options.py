"""Options that several commands share."""

from __future__ import annotations

import pytest

from cortex.cli.options import parse_gpus


@pytest.mark.parametrize(
    ("text", "gpus"),
    [(None, None), ("all", "all"), ("none", "none"), ("0,1", [0, 1]), ("GPU-6d5c, 2", ["GPU-6d5c", 2]), ("", [])],
)
def test_gpus(text: str | None, gpus: object) -> None:
    assert parse_gpus(text) == gpus
