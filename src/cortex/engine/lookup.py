"""Speculation without a second model: what followed the last few tokens earlier in this text may follow again.

Guesses ride along in the batch and are kept as far as the model agrees, so the output is what it would have been.
They cost compute; whether they pay depends on the machine (a GPU computes a few more rows for nothing, a CPU doesn't)
and on the text, so both are measured: seconds per batch size, and the share of guesses that were right.
"""

from __future__ import annotations

from itertools import takewhile

import numpy as np

from cortex.engine.active import Branch
from cortex.engine.sequence import Int32Array, Sequence

__all__ = ["Lookup", "find_continuation"]

_NGRAM = 3
_WINDOW = 16384
_MOST = 8
_TRIES = 3
"""Batches of an unknown size that are tried before its time counts as known."""
_RETRY_EVERY = 200
"""Guesses withheld before one is tried again: texts change."""
_WEIGHT = 0.2
_TYPICAL_WEIGHT = 0.05


class Lookup:
    """Guesses for one model. Not for sequences under a grammar or with logprobs: those look at every row anyway."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._seconds: dict[int, float] = {}
        self._seen: dict[int, int] = {}
        self._withheld = 0
        self._typical = 0.5

    def guess(self, sequence: Sequence, branch: Branch, running: int) -> list[int]:
        """What may come after the last token; [] when nothing is known or it wouldn't pay."""
        if not self._enabled or running > _MOST or branch.choice.governed:
            return []
        if sequence.plain_next:
            sequence.plain_next = False
            return []
        guesses = find_continuation(sequence.tokens.view(), _MOST)[: branch.choice.room_left - 1]
        if not guesses or self._pays(sequence, len(guesses), running):
            return guesses
        self._withheld += 1
        if self._withheld < _RETRY_EVERY:
            return []
        self._withheld = 0
        return guesses

    def learn(self, sequence: Sequence, guessed: int, right: int, *, unsure: bool) -> None:
        """`right` of `guessed` tokens were kept; `unsure`: the next token wants a batch without guesses."""
        sequence.plain_next = unsure
        share = right / guessed
        known = self._acceptance(sequence)
        sequence.acceptance = known + _WEIGHT * (share - known)
        self._typical += _TYPICAL_WEIGHT * (share - self._typical)

    def record(self, rows: int, seconds: float) -> None:
        """A batch of `rows` tokens, all of them decoding, took `seconds`."""
        known = self._seconds.get(rows, seconds)
        self._seconds[rows] = known + _WEIGHT * (seconds - known)
        self._seen[rows] = self._seen.get(rows, 0) + 1

    def _pays(self, sequence: Sequence, guessed: int, running: int) -> bool:
        """Tokens per second with guesses against those without, at this many sequences."""
        with_guesses = self._seconds.get(running + guessed)
        without = self._seconds.get(running)
        if without is None or with_guesses is None or self._seen[running + guessed] < _TRIES:
            return self._acceptance(sequence) > 0.25
        return (running + guessed * self._acceptance(sequence)) / with_guesses > 1.05 * running / without

    def _acceptance(self, sequence: Sequence) -> float:
        """What this text has shown, or at its beginning what texts here usually show."""
        return self._typical if sequence.acceptance is None else sequence.acceptance


def find_continuation(tokens: Int32Array, most: int) -> list[int]:
    """Up to `most` tokens that followed the latest earlier place where the last three tokens stood; no image's."""
    tokens = tokens[-_WINDOW:]
    if len(tokens) <= _NGRAM:
        return []
    first, second, third = tokens[-_NGRAM:].tolist()
    places = np.flatnonzero((tokens[2:-1] == third) & (tokens[1:-2] == second) & (tokens[:-3] == first))
    if not len(places):
        return []
    start = int(places[-1]) + _NGRAM
    result: list[int] = tokens[start : start + most].tolist()
    return list(takewhile(lambda token: token >= 0, result))
