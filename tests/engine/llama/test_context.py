"""The context itself: aborting a decode from another thread, and moving a sequence's state."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from cortex.engine.kv.slot import CopyPrefix, Slot, Truncate
from cortex.engine.kv.tokens import TokenBuffer
from cortex.engine.llama import library
from cortex.engine.llama.context import Aborted, Context, DecodeFailed
from cortex.engine.llama.context_shape import ContextShape
from cortex.engine.llama.model import Model
from cortex.engine.llama.sampler import Sampler
from cortex.engine.sampling.params import DEFAULTS
from cortex.engine.scheduling.sequence import Entry, Sequence
from cortex.wire.inference import Sampling
from cortex.wire.worker import LoadSpec
from tests.models import smollm2

pytestmark = pytest.mark.model

SAME = 0.5
"""Logits after one text differ by less, whatever the batch's shape and the CPU; after another text, by several."""


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    tap = library.LogTap()
    tap.install()
    library.start_backend()
    spec = LoadSpec("m", str(smollm2()), context=1024)
    model = Model.load(spec, tap, lambda _: None)
    made = Context(model, spec, ContextShape(2048, 7, 512, 512, 1, 1), tap)
    yield made
    made.close()
    model.close()


def sequence(slot: int, tokens: list[int]) -> Sequence:
    made = Sequence(f"r{slot}", 0, TokenBuffer(tokens), len(tokens), slot)
    made.slot = Slot(slot, made.tokens, None)
    return made


def test_a_running_decode_can_be_stopped_from_another_thread(context: Context) -> None:
    long = sequence(0, list(range(100, 612)))
    enough = threading.Event()

    def stop() -> None:  # again and again: an abort between two decodes has no effect
        while not enough.wait(0.01):
            context.abort.set()

    def decode_again_and_again() -> None:
        for _ in range(1000):
            context.decode([Entry(long, 0, 512, 1)])
            context.apply(Truncate(0, 0))

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        with pytest.raises(Aborted):
            decode_again_and_again()
    finally:
        enough.set()
        stopper.join()
    context.apply(Truncate(0, 0))
    context.decode([Entry(sequence(0, [1, 2, 3]), 0, 3, 1)])
    context.apply(Truncate(0, 0))


def test_a_restored_state_continues_like_the_one_that_was_saved(context: Context) -> None:
    tokens = context.model.vocab.tokenize("The quick brown fox jumps over the lazy")
    first = sequence(1, tokens)
    context.decode([Entry(first, 0, len(tokens) - 1, 0)])
    state = context.save_slot(1)
    context.decode([Entry(first, len(tokens) - 1, 1, 1)])
    expected = context.logits(0).copy()
    assert context.restore_slot(2, state)
    context.decode([Entry(sequence(2, tokens), len(tokens) - 1, 1, 1)])
    assert np.abs(context.logits(0) - expected).max() < SAME
    assert not context.restore_slot(3, b"no state at all")


def test_a_copied_prefix_continues_like_its_source(context: Context) -> None:
    tokens = context.model.vocab.tokenize("One two three four five six")
    source = sequence(4, tokens)
    rows = context.decode([Entry(source, 0, len(tokens), 1)])
    expected = context.logits(rows[0]).copy()
    context.apply(CopyPrefix(4, 5, len(tokens) - 1))
    rows = context.decode([Entry(sequence(5, tokens), len(tokens) - 1, 1, 1)])
    assert np.abs(context.logits(rows[0]) - expected).max() < SAME


def test_a_batch_that_makes_no_sense_is_refused_without_being_fatal(context: Context) -> None:
    with pytest.raises(DecodeFailed) as refused:
        context.decode([Entry(sequence(6, [10**7]), 0, 1, 1)])
    assert not refused.value.fatal


def test_a_canary_leaves_nothing_behind(context: Context) -> None:
    context.decode_canary(1)
    context.decode_canary(1)


def test_a_sampler_draws_on_wherever_it_is_moved(context: Context) -> None:
    """On the device, on the CPU, on the device under another id: one stream of random numbers, and one history."""
    warm = Sampling(temperature=2.0, top_k=200, repeat_penalty=1.5).merged_over(DEFAULTS)
    tokens = context.model.vocab.tokenize("Once upon a time there was")
    for slot in (0, 3):
        context.decode([Entry(sequence(slot, tokens), 0, len(tokens), 0)])

    def draw(sampler: Sampler, slot: int) -> int:
        context.apply(Truncate(slot, len(tokens) - 1))
        rows = context.decode([Entry(sequence(slot, tokens), len(tokens) - 1, 1, 1)])
        return sampler.sample(context.handle, rows[0])

    def draws(places: list[tuple[int, bool]]) -> list[int]:
        sampler = Sampler(warm, 5, context.model.vocab)
        drawn: list[int] = []
        for slot, on_device in places:
            if on_device:
                assert context.set_sampler(slot, sampler.lend())
            drawn += [draw(sampler, slot) for _ in range(3)]
            if on_device:
                context.set_sampler(slot, None)
                sampler.take_back()
        sampler.close()
        return drawn

    expected = draws([(0, False)] * 3)
    assert len(set(expected)) > 5
    assert draws([(0, True), (0, False), (3, True)]) == expected
    for slot in (0, 3):
        context.apply(Truncate(slot, 0))
