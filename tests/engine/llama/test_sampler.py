"""llama.cpp's chains as they are built here: which tokens they choose."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as c

from cortex.engine.llama import library
from cortex.engine.llama.model import Model, Vocab
from cortex.engine.llama.sampler import Sampler
from cortex.engine.sampling.params import DEFAULTS
from cortex.wire.inference import Sampling

pytestmark = pytest.mark.model

FIRST, SECOND, THIRD = 40, 41, 42


@pytest.fixture(scope="module")
def vocab(scripted_path: Path) -> Iterator[Vocab]:
    tap = library.LogTap()
    tap.install()
    library.start_backend()
    model = Model.load_vocabulary(str(scripted_path), tap)
    yield model.vocab
    model.close()


def chosen(sampler: Sampler, vocab: Vocab, scores: dict[int, float]) -> int:
    """The token that `sampler` chooses from these logits, all others being far below."""
    logits = np.full(vocab.size, -30.0)
    for token, score in scores.items():
        logits[token] = score
    data = (c.llama_token_data * vocab.size)(*(c.llama_token_data(t, logit, 0.0) for t, logit in enumerate(logits)))
    candidates = c.llama_token_data_array(data, vocab.size, -1, False)
    c.llama_sampler_apply(sampler._chain, ctypes.byref(candidates))
    return int(candidates.data[candidates.selected].id)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"repeat_last_n": 2}, FIRST),
        ({"repeat_last_n": 2, "dry_multiplier": 0.1, "dry_penalty_last_n": 64}, FIRST),
        ({"repeat_last_n": 64, "dry_multiplier": 0.1, "dry_penalty_last_n": 1}, THIRD),
        ({"repeat_last_n": -1}, THIRD),
        ({"repeat_last_n": 0}, FIRST),
    ],
)
def test_repetition_is_penalised_within_its_own_window(vocab: Vocab, fields: dict[str, float], expected: int) -> None:
    """Not in DRY's: the token that came first is outside the last two."""
    sampling = Sampling(temperature=0.0, presence_penalty=5.0, **fields).merged_over(DEFAULTS)  # type: ignore[arg-type]
    sampler = Sampler(sampling, 1, vocab)
    sampler.accept_prompt(np.array([FIRST, SECOND, SECOND], dtype=np.int32))
    assert chosen(sampler, vocab, {FIRST: 3.0, SECOND: 2.5, THIRD: 1.0}) == expected
    sampler.close()


@pytest.mark.parametrize(("window", "expected"), [(2, FIRST), (64, SECOND)])
def test_dry_looks_back_in_its_own_window(vocab: Vocab, window: int, expected: int) -> None:
    """Not in that of the other penalties: a repeated sequence is seen only within DRY's."""
    sampling = Sampling(
        temperature=0.0, dry_multiplier=8.0, dry_penalty_last_n=window, repeat_penalty=1.0001, repeat_last_n=64
    ).merged_over(DEFAULTS)
    sampler = Sampler(sampling, 1, vocab)
    sampler.accept_prompt(np.array([THIRD, THIRD + 1, THIRD + 2, FIRST, THIRD, THIRD + 1, THIRD + 2], dtype=np.int32))
    assert chosen(sampler, vocab, {FIRST: 3.0, SECOND: 2.5}) == expected
    sampler.close()
