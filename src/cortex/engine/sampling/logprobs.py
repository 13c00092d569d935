"""Log-probabilities of logits rows, before penalties, grammar and temperature."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cortex.engine.chat.vocabulary import Vocabulary
from cortex.wire.events import TokenLogprob, TopLogprob

__all__ = ["LogprobRow", "PromptScores"]


class LogprobRow:
    """A copy of one row (float32 of vocabulary size): sampling changes the logits in place. Natural logarithms."""

    def __init__(self, logits: NDArray[np.float32], alternatives: int) -> None:
        self._scores = logits - logits.max()
        self._total = float(np.log(np.exp(self._scores).sum(dtype=np.float64)))
        count = min(alternatives, len(logits))
        best = np.argpartition(self._scores, -count)[-count:] if count else np.array([], dtype=np.int64)
        self._best: list[int] = best[np.argsort(-self._scores[best], kind="stable")].tolist()

    def of(self, token: int, vocab: Vocabulary) -> TokenLogprob:
        """The log-probability of `token`, with the row's `alternatives` best tokens."""
        top = [TopLogprob(t, vocab.piece(t), self._logprob(t)) for t in self._best]
        return TokenLogprob(token, vocab.piece(token), self._logprob(token), top)

    def _logprob(self, token: int) -> float:
        return float(self._scores[token]) - self._total


class PromptScores:
    """Log-probabilities of a prompt's tokens from number `first` on, recorded as prefill computes their rows.

    The first has none, as in OpenAI's API. Positions may be recorded again: a preempted sequence is computed again.
    """

    def __init__(self, tokens: list[int], first: int, alternatives: int, vocab: Vocabulary) -> None:
        self._tokens = tokens
        self._first = first
        self._alternatives = alternatives
        self._vocab = vocab
        self.found = [TokenLogprob(token, vocab.piece(token), None) for token in tokens[first : first + 1]]

    def record(self, start: int, rows: Iterable[NDArray[np.float32]]) -> None:
        """Take the logits rows of the prompt's positions from `start` on; each predicts the token after it."""
        for target, row in enumerate(rows, start + 1):
            if target == self._first + len(self.found) < len(self._tokens):
                scores = LogprobRow(row, self._alternatives)
                self.found.append(scores.of(self._tokens[target], self._vocab))
