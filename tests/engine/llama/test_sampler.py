"""llama.cpp's chains as they are built here: which tokens they choose."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import llama_cpp as c

from cortex.engine.llama import library
from cortex.engine.llama.model import Model, Vocab
from cortex.engine.llama.sampler import Sampler, prepare_samplers
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


@pytest.mark.parametrize(
    ("fields", "plain"),
    [
        ({}, True),
        ({"top_k": 1, "min_p": 0.5, "seed": 3}, True),
        ({"temperature": 0.5}, False),
        ({"ignore_eos": True}, False),
        ({"logit_bias": {5: 0.0}}, False),
        ({"repeat_penalty": 1.1}, False),
        ({"presence_penalty": 0.1}, False),
        ({"dry_multiplier": 0.8}, False),
    ],
)
def test_only_a_chain_that_takes_the_best_is_plain(vocab: Vocab, fields: dict[str, Any], plain: bool) -> None:
    sampler = Sampler(Sampling(**({"temperature": 0.0} | fields)).merged_over(DEFAULTS), 1, vocab)
    assert sampler.plain is plain
    sampler.close()


def test_the_best_token_is_the_one_that_llama_cpp_takes_also_of_equals(vocab: Vocab) -> None:
    sampler = Sampler(Sampling(temperature=0.0).merged_over(DEFAULTS), 1, vocab)
    rng = np.random.default_rng(3)
    for _ in range(20):
        scores = dict(
            zip(rng.choice(vocab.size, 40, replace=False).tolist(), rng.integers(0, 4, 40).tolist(), strict=True)
        )
        logits = np.full(vocab.size, -30.0, dtype=np.float32)
        logits[list(scores)] = list(scores.values())
        assert chosen(sampler, vocab, scores) == int(logits.argmax())
    sampler.close()


def test_dry_is_built_once_and_its_copies_share_no_history(vocab: Vocab, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = Sampling(temperature=0.0, dry_multiplier=8.0, dry_sequence_breakers=["x"]).merged_over(DEFAULTS)
    prepare_samplers(sampling, vocab)
    monkeypatch.setattr(c, "llama_sampler_init_dry", lambda *_: pytest.fail("built again"))
    repeating = np.array([THIRD, THIRD + 1, THIRD + 2, FIRST, THIRD, THIRD + 1, THIRD + 2], dtype=np.int32)
    first, second = (Sampler(sampling, 1, vocab) for _ in range(2))
    first.accept_prompt(repeating)
    assert chosen(first, vocab, {FIRST: 3.0, SECOND: 2.5}) == SECOND
    assert chosen(second, vocab, {FIRST: 3.0, SECOND: 2.5}) == FIRST
    first.close()
    second.close()


def test_many_sets_of_dry_parameters_are_not_kept_for_ever(vocab: Vocab) -> None:
    for number in range(40):
        prepare_samplers(Sampling(dry_multiplier=1.0 + number, temperature=0.0).merged_over(DEFAULTS), vocab)
    assert len(vocab.dry._kept) == 16
