"""From rows of logits to a choice's next tokens: grammar, draw, guesses put to the test, the end of a spent budget."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cortex.engine.kv.pool import KvPool
from cortex.engine.llama.context import Context
from cortex.engine.llama.model import Vocab
from cortex.engine.request.outbox import EventOutbox
from cortex.engine.request.state import ChoiceState, RequestState
from cortex.engine.request.stats import ModelStats
from cortex.engine.sampling.logprobs import LogprobRow
from cortex.engine.sampling.prompt_lookup import PromptLookup
from cortex.engine.scheduling.scheduler import Entry
from cortex.wire.events import Event, TokenLogprob, Tokens

__all__ = ["RowSampler"]

_MASK_DEADLINE_S = 30.0
"""For a grammar's next mask, which takes a millisecond at most by measurement."""


class RowSampler:
    """Runs in the loop's thread. While a batch decodes, a thread of its own computes the masks for the rows to come."""

    def __init__(
        self,
        context: Context,
        vocab: Vocab,
        *,
        kv: KvPool,
        lookup: PromptLookup,
        tally: ModelStats,
        spoken: EventOutbox,
    ) -> None:
        self._context = context
        self._vocab = vocab
        self._kv = kv
        self._lookup = lookup
        self._tally = tally
        self._spoken = spoken
        self._masks = ThreadPoolExecutor(1, "masks")

    def advance(self, active: RequestState, branch: ChoiceState, entry: Entry, row: int) -> None:
        """Sample the row; where tokens were guessed, go on through the rows as long as the guesses were right.

        Says what there is to say; `branch.choice.finished` tells whether that was the end. Raises a CortexError of the
        grammar.
        """
        guesses = _take_guesses(branch, entry)
        right, unsure = 0, False
        while True:
            unsure = bool(guesses) and branch.sampler.greedy and self._context.nearly_tied(row + right)
            if unsure:
                break
            token, logprob = self._sample(active, branch, row + right)
            self._pass_on(active, branch, token, branch.choice.feed(token, logprob))
            halted = branch.choice.finished or branch.choice.overspent
            if right == len(guesses) or halted or token != guesses[right]:
                break
            right += 1
        if guesses:
            self._settle_guesses(active, branch, entry, len(guesses), right, unsure=unsure)
        self._force(active, branch)
        if not branch.choice.finished and (constraint := branch.choice.constraint()):
            branch.mask = self._masks.submit(constraint.prepare)

    def close(self) -> None:
        self._masks.shutdown()

    def _sample(self, active: RequestState, branch: ChoiceState, row: int) -> tuple[int, TokenLogprob | None]:
        wanted = active.job.request.logprobs
        constraint = branch.choice.constraint()
        logits = self._context.logits(row) if wanted is not None or constraint else None
        probabilities = LogprobRow(logits, wanted) if logits is not None and wanted is not None else None
        if branch.mask:
            branch.mask.result(_MASK_DEADLINE_S)
            branch.mask = None
        if constraint and logits is not None:
            constraint.apply(logits)
        token = branch.sampler.sample(self._context.handle, row)
        if constraint and logits is not None and logits[token] == -np.inf:
            # the grammar and the biases together leave nothing: the answer ends here
            token = min(self._vocab.ends, default=token)
        return token, probabilities.of(token, self._vocab) if probabilities else None

    def _pass_on(self, active: RequestState, branch: ChoiceState, token: int, events: list[Event]) -> None:
        if active.job.request.report_tokens:
            events = [Tokens([token], branch.choice.number), *events]
        if events:
            self._spoken.say(active, events)
        if not branch.choice.finished:
            branch.sequence.tokens.append(token)
        self._tally.completion_tokens += 1

    def _settle_guesses(
        self, active: RequestState, branch: ChoiceState, entry: Entry, guessed: int, right: int, *, unsure: bool
    ) -> None:
        """Forget the guesses that were wrong. A row near a tie is computed again in a plain batch: a longer one rounds
        differently, and the text must be what it would be without guesses."""
        sequence = branch.sequence
        assert sequence.slot is not None
        self._kv.truncate(sequence.slot, entry.start + entry.count - guessed + right - unsure)
        self._lookup.learn(sequence, guessed, right, unsure=unsure)
        active.draft_tokens += guessed
        active.draft_accepted += right

    def _force(self, active: RequestState, branch: ChoiceState) -> None:
        """Close reasoning whose budget is spent: its end markers follow, unsampled, in the next batch."""
        for token in branch.choice.forced() if not branch.choice.finished else ():
            branch.sampler.accept(token)
            self._pass_on(active, branch, token, branch.choice.force(token))
            if branch.choice.finished:
                return


def _take_guesses(branch: ChoiceState, entry: Entry) -> list[int]:
    """The tokens that were guessed for this entry, taken back from the sequence until they prove right."""
    sequence = branch.sequence
    if not sequence.drafts:
        return []
    end = entry.start + entry.count
    guesses: list[int] = sequence.tokens.view(end - sequence.drafts, end).tolist()
    sequence.tokens.truncate(end - sequence.drafts)
    sequence.drafts = 0
    return guesses
