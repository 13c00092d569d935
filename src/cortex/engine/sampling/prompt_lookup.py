"""Speculation without a second model: what followed the last few tokens earlier in this text may follow again.

Guesses ride along in the batch and are kept as far as the model agrees, so the output is what it would have been.
They cost compute; whether they pay depends on the machine (a GPU computes a few more rows for nothing, a CPU doesn't)
and on the text, so both are measured: what a row more costs, and the share of guesses that were right.
"""

from __future__ import annotations

from itertools import takewhile

import numpy as np

from cortex.engine.request.state import ChoiceState
from cortex.engine.sampling.row_price import RowPrice
from cortex.engine.scheduling.sequence import Int32Array, Sequence

__all__ = ["PromptLookup", "find_continuation"]

_NGRAM = 3
_WINDOW = 16384
_MOST = 8
_WORTH_TRYING = 0.25
"""Share of right guesses from which on rows of unknown price are tried."""
_WORTH_MAKING = 1.05
"""How much faster the text must grow with guesses than without."""
_RETRY_EVERY = 200
"""Guesses withheld before they are tried again: texts change."""
_WEIGHT = 0.2
_TYPICAL_WEIGHT = 0.05


class PromptLookup:
    """Guesses for one model. Not for sequences under a grammar or with logprobs: those look at every row anyway."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._price = RowPrice()
        self._withheld = 0
        self._typical = 0.5

    def guess(self, sequence: Sequence, branch: ChoiceState, running: int) -> list[int]:
        """What may come after the last token; [] when nothing is known or it wouldn't pay."""
        if not self._enabled or running > _MOST or branch.choice.governed:
            return []
        if sequence.plain_next:
            sequence.plain_next = False
            return []
        guesses = find_continuation(sequence.tokens.view(), _MOST)[: branch.choice.room_left - 1]
        if not guesses or self._pays(sequence, len(guesses), running):
            return guesses
        self._withheld = (self._withheld + 1) % _RETRY_EVERY
        return [] if self._withheld else guesses

    def learn(self, sequence: Sequence, guessed: int, right: int, *, unsure: bool) -> None:
        """`right` of `guessed` tokens were kept; `unsure`: the next token wants a batch without guesses."""
        sequence.plain_next = unsure
        share = right / guessed
        known = self._acceptance(sequence)
        sequence.acceptance = known + _WEIGHT * (share - known)
        self._typical += _TYPICAL_WEIGHT * (share - self._typical)

    def record(self, rows: int, guesses: int, seconds: float) -> None:
        """A step of `rows` decoding rows, `guesses` of them guessed, took `seconds`."""
        self._price.record(rows, guesses, seconds)

    def _pays(self, sequence: Sequence, guesses: int, running: int) -> bool:
        acceptance = self._acceptance(sequence)
        speedup = self._price.speedup(running, guesses, acceptance)
        return acceptance > _WORTH_TRYING if speedup is None else speedup > _WORTH_MAKING

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
