"""Log-probabilities of a logits row, as the model gave it: before penalties, grammar and temperature."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cortex.engine.vocabulary import Vocabulary
from cortex.wire.events import TokenLogprob, TopLogprob

__all__ = ["LogprobRow"]


class LogprobRow:
    """A row kept over sampling, which changes the logits in place."""

    def __init__(self, logits: NDArray[np.float32], alternatives: int) -> None:
        shifted = logits.astype(np.float64) - float(logits.max())
        self._logprobs = shifted - np.log(np.exp(shifted).sum())
        count = min(alternatives, len(logits))
        best = np.argpartition(self._logprobs, -count)[-count:] if count else np.array([], dtype=np.int64)
        self._best = best[np.argsort(-self._logprobs[best], kind="stable")]

    def of(self, token: int, vocab: Vocabulary) -> TokenLogprob:
        top = [TopLogprob(int(t), vocab.piece(int(t)), float(self._logprobs[t])) for t in self._best]
        return TokenLogprob(token, vocab.piece(token), float(self._logprobs[token]), top)
