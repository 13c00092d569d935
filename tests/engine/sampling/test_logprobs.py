"""Log-probabilities of logits rows."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest

from cortex.engine.chat.vocabulary import Vocabulary
from cortex.engine.sampling.logprobs import LogprobRow, PromptScores


class _Vocab:
    def piece(self, token: int) -> bytes:
        return bytes([token])


VOCAB = cast("Vocabulary", _Vocab())


def row(*logits: float) -> np.ndarray:
    return np.array(logits, dtype=np.float32)


def test_probabilities_sum_to_one_and_the_best_come_first() -> None:
    logits = row(1.0, 3.0, 2.0, -np.inf)
    found = LogprobRow(logits, 4).of(2, VOCAB)
    assert [top.token_id for top in found.top] == [1, 2, 0, 3]
    assert sum(math.exp(top.logprob) for top in found.top) == pytest.approx(1)
    assert found.logprob == found.top[1].logprob


def test_a_row_is_kept_over_changes_of_its_logits() -> None:
    logits = row(0.0, 0.0)
    scores = LogprobRow(logits, 1)
    logits[0] = -np.inf
    assert scores.of(0, VOCAB).logprob == pytest.approx(math.log(0.5))


def test_a_prompts_tokens_are_scored_once_though_computed_twice() -> None:
    """As after a preemption, in other chunks; the last row predicts what isn't in the prompt."""
    rows = [row(*np.arange(5.0) * factor) for factor in (1, 2, 3, 4)]
    scores = PromptScores([4, 3, 2, 1], 0, 1, VOCAB, "\x04\x03\x02\x01")
    scores.record(0, rows[:2])
    scores.record(0, rows[:1])
    scores.record(1, rows[1:])
    assert [entry.token_id for entry in scores.found] == [4, 3, 2, 1]
    assert scores.found[0].logprob is None
    assert [entry.logprob for entry in scores.found[1:]] == [
        LogprobRow(rows[place], 0).of(token, VOCAB).logprob for place, token in enumerate([3, 2, 1])
    ]


def test_a_bos_before_the_prompt_has_no_entry() -> None:
    assert PromptScores([0], 1, 0, VOCAB, "").found == []
    scores = PromptScores([0, 3, 2], 1, 0, VOCAB, "\x03\x02")
    scores.record(0, [row(1, 2, 3, 4)] * 3)
    assert [(entry.token_id, entry.logprob is None) for entry in scores.found] == [(3, True), (2, False)]


@pytest.mark.parametrize(
    ("echo", "offsets"),
    [("aé b", [0, 1, 1, 2]), (" aé b", [0, 2, 2, 3])],
    ids=["a space that the tokenizer added", "a space of the prompt"],
)
def test_echoed_tokens_have_their_places_in_the_echo(echo: str, offsets: list[int]) -> None:
    pieces = [b" a", b"\xc3", b"\xa9", b" b"]
    vocab = cast("Vocabulary", type("Pieces", (), {"piece": lambda _, token: pieces[token]})())
    scores = PromptScores([0, 1, 2, 3], 0, 0, vocab, echo)
    scores.record(0, [row(1, 2, 3, 4)] * 4)
    assert [entry.offset for entry in scores.found] == offsets
