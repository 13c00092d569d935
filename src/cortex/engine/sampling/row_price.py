"""What one more row in a decode step takes: on a GPU next to nothing, on a CPU nearly as much as the first. Pure."""

from __future__ import annotations

import statistics
from collections import deque

__all__ = ["RowPrice"]

_WEIGHT = 0.3
"""Of the newest plain step in a running mean: a guess is compared with the steps just before it."""
_SAMPLES = 5
"""Prices whose median counts, of an even number the lower: a busy machine only ever adds to a step."""


class RowPrice:
    """Measured by the steps that held guesses, against the plain steps before them."""

    def __init__(self) -> None:
        self._plain_s: dict[int, float] = {}
        self._prices: deque[float] = deque(maxlen=_SAMPLES)

    def record(self, rows: int, guesses: int, seconds: float) -> None:
        """A step of `rows` decoding rows, `guesses` of them guessed, took `seconds`."""
        plain = self._plain_s.get(rows - guesses)
        if not guesses:
            self._plain_s[rows] = seconds if plain is None else plain + _WEIGHT * (seconds - plain)
        elif plain is not None:
            self._prices.append((seconds - plain) / guesses)

    def speedup(self, running: int, guesses: int, acceptance: float) -> float | None:
        """How much faster `running` sequences grow if one of them has `guesses`, the share `acceptance` of which is
        right; None where it hasn't been measured."""
        plain = self._plain_s.get(running)
        if plain is None or not self._prices:
            return None
        seconds = max(plain + guesses * statistics.median_low(self._prices), plain / 2)
        return (running + guesses * acceptance) / running * plain / seconds
