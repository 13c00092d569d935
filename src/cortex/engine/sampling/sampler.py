"""From an entry's rows of logits to its choice's next tokens: grammar, draw, guesses verified, reasoning cut off."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cortex.engine.llama.context import Context
from cortex.engine.llama.model import Vocab
from cortex.engine.request.state import ChoiceState
from cortex.engine.sampling.logprobs import LogprobRow
from cortex.engine.scheduling.sequence import Entry
from cortex.wire.events import Event, TokenLogprob, Tokens

__all__ = ["RowSampler", "Sampled"]

_MASK_DEADLINE_S = 30.0
"""For a grammar's next mask, which takes 0.5 ms at the 99th percentile (151,936 tokens: contrib/bench/masks.py)."""


@dataclass(slots=True)
class Sampled:
    """What one entry gave. `tokens` belong to its sequence (the one that ends an answer doesn't), `completion_tokens`
    counts all. `accepted` of the entry's guesses were right; `unsure`: the next token must be computed again."""

    tokens: list[int]
    events: list[Event]
    completion_tokens: int = 0
    accepted: int = 0
    unsure: bool = False


class RowSampler:
    """For one engine, in the loop's thread. A thread of its own computes masks for the next rows during a decode."""

    def __init__(self, context: Context, vocab: Vocab) -> None:
        self._context = context
        self._vocab = vocab
        self._masks = ThreadPoolExecutor(1, "masks")

    def sample(self, entry: Entry[ChoiceState], row: int) -> Sampled:
        """Sample from logits row `row`, and from the rows after it as long as the entry's guesses are right.

        `output.finished` of the choice tells whether the answer has ended. Raises InternalError if its grammar fails.
        A row near a tie isn't sampled in a batch with guesses: a longer batch rounds differently, and the text must be
        what it would be without guesses.
        """
        choice, drafts, sampled = entry.sequence, entry.drafts, Sampled([], [])
        while True:
            at = row + sampled.accepted
            if drafts and choice.sampler.greedy and self._context.nearly_tied(at):
                sampled.unsure = True
                break
            token, logprob = self._draw(choice, at)
            _add(sampled, choice, token, choice.output.feed(token, logprob))
            if choice.output.finished or choice.output.overspent:
                break
            if sampled.accepted == len(drafts) or token != drafts[sampled.accepted]:
                break
            sampled.accepted += 1
        self._force(sampled, choice)
        if not choice.output.finished and (constraint := choice.output.constraint()):
            choice.mask = self._masks.submit(constraint.prepare)
        return sampled

    def close(self) -> None:
        self._masks.shutdown()

    def _draw(self, choice: ChoiceState, row: int) -> tuple[int, TokenLogprob | None]:
        wanted = choice.request.prepared.request.logprobs
        constraint = choice.output.constraint()
        logits = self._context.logits(row) if wanted is not None or constraint else None
        probabilities = LogprobRow(logits, wanted) if logits is not None and wanted is not None else None
        if choice.mask:
            choice.mask.result(_MASK_DEADLINE_S)
            choice.mask = None
        if constraint and logits is not None:
            constraint.apply(logits)
        token = choice.sampler.sample(self._context.handle, row)
        if constraint and logits is not None and logits[token] == -np.inf:
            # the grammar and the biases together allow no token: the answer ends here
            token = min(self._vocab.ends, default=token)
        return token, probabilities.of(token, self._vocab) if probabilities else None

    def _force(self, sampled: Sampled, choice: ChoiceState) -> None:
        """Close reasoning whose budget is spent: its end markers follow, unsampled, in the next batch."""
        for token in choice.output.forced() if not choice.output.finished else ():
            choice.sampler.accept(token)
            _add(sampled, choice, token, choice.output.force(token))
            if choice.output.finished:
                return


def _add(sampled: Sampled, choice: ChoiceState, token: int, events: list[Event]) -> None:
    if choice.request.prepared.request.report_tokens:
        sampled.events.append(Tokens([token], choice.number))
    sampled.events += events
    sampled.completion_tokens += 1
    if not choice.output.finished:
        sampled.tokens.append(token)
