"""Speculation without a second model: what followed the last few tokens earlier in this text may follow again.

Guesses ride along in the batch and are kept as far as the model agrees, so the output is what it would have been
without. They cost compute; whether they pay depends on the machine (a GPU computes a few more rows for nothing, a CPU
doesn't) and on the text, so both are measured: what one more row costs, and the share of guesses that were right. Pure.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from cortex.engine.kv.tokens import Int32Array, TokenBuffer

__all__ = ["GuessHistory", "PromptLookup", "RowPrice", "find_continuation"]

# Chosen, then checked with SmolLM2 on two cores (docs/explanation/performance.md, "Speculation by lookup").
_NGRAM = 3
"""Tokens that must repeat."""
_WINDOW = 16384
"""Tokens that are searched, counted from the end."""
_MOST = 8
"""Guesses per step, and running sequences beside which guesses are made at all."""
_WORTH_TRYING = 0.25
"""Share of right guesses from which on guesses are made while the price of a row isn't known."""
_WORTH_MAKING = 1.05
"""How much faster the text must grow with guesses than without."""
_RETRY_EVERY = 200
"""Guesses withheld before they are tried again: texts change."""
_WEIGHT = 0.2
"""Of the newest step in one text's running share of right guesses."""
_TYPICAL_WEIGHT = 0.05
"""The same for the share over all texts."""
_PLAIN_WEIGHT = 0.3
"""Of the newest plain step in a running mean: a step with guesses is compared with the ones just before it."""
_SAMPLES = 5
"""Prices whose median counts, of an even number the lower one: other load on the machine only makes steps longer."""


@dataclass(slots=True)
class GuessHistory:
    """How guesses have fared in one text. `acceptance`: running share of right ones, None before the first.
    `plain_next`: the next step must be without guesses."""

    acceptance: float | None = None
    plain_next: bool = False


class RowPrice:
    """What one more row in a decode step costs: the steps that held guesses against the plain steps before them."""

    def __init__(self) -> None:
        self._plain_s: dict[int, float] = {}
        self._prices: deque[float] = deque(maxlen=_SAMPLES)

    def record(self, rows: int, guesses: int, seconds: float) -> None:
        """A step of `rows` decoding rows, `guesses` of them guessed, took `seconds`."""
        plain = self._plain_s.get(rows - guesses)
        if not guesses:
            self._plain_s[rows] = seconds if plain is None else plain + _PLAIN_WEIGHT * (seconds - plain)
        elif plain is not None:
            self._prices.append((seconds - plain) / guesses)

    def speedup(self, running: int, guesses: int, acceptance: float) -> float | None:
        """How much faster `running` sequences grow if one of them has `guesses`, of which the share `acceptance` is
        right; None before it was measured."""
        plain = self._plain_s.get(running)
        if plain is None or not self._prices:
            return None
        seconds = max(plain + guesses * statistics.median_low(self._prices), plain / 2)
        return (running + guesses * acceptance) / running * plain / seconds


class PromptLookup:
    """Guesses for the sequences of one model, in the loop's thread.

    The engine asks for none under a grammar or with log-probabilities, where every row of logits must be read, nor for
    a sequence that the device samples, which may have one row per batch.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._price = RowPrice()
        self._withheld = 0
        self._typical = 0.5

    def guess(self, tokens: TokenBuffer, history: GuessHistory, *, room: int, running: int) -> list[int]:
        """What may follow `tokens`, at most `room` - 1; [] when nothing is known or it wouldn't pay beside `running`
        sequences."""
        if not self.enabled or running > _MOST:
            return []
        if history.plain_next:
            history.plain_next = False
            return []
        guesses = find_continuation(tokens.view(), _MOST)[: room - 1]
        if not guesses or self._pays(history, len(guesses), running):
            return guesses
        self._withheld = (self._withheld + 1) % _RETRY_EVERY
        return [] if self._withheld else guesses

    def learn(self, history: GuessHistory, guessed: int, right: int, *, unsure: bool) -> None:
        """`right` of `guessed` tokens were kept; `unsure`: the next token must come from a batch without guesses."""
        history.plain_next = unsure
        share = right / guessed
        known = self._acceptance(history)
        history.acceptance = known + _WEIGHT * (share - known)
        self._typical += _TYPICAL_WEIGHT * (share - self._typical)

    def record(self, rows: int, guesses: int, seconds: float) -> None:
        """A step of `rows` decoding rows, `guesses` of them guessed, took `seconds`."""
        self._price.record(rows, guesses, seconds)

    def _pays(self, history: GuessHistory, guesses: int, running: int) -> bool:
        acceptance = self._acceptance(history)
        speedup = self._price.speedup(running, guesses, acceptance)
        return acceptance > _WORTH_TRYING if speedup is None else speedup > _WORTH_MAKING

    def _acceptance(self, history: GuessHistory) -> float:
        """This text's share of right guesses so far, or the share over all texts before its first."""
        return self._typical if history.acceptance is None else history.acceptance


def find_continuation(tokens: Int32Array, most: int) -> list[int]:
    """Up to `most` tokens that followed the latest earlier occurrence of the last three tokens; no image's."""
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
