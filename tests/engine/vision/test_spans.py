"""Images in the token buffer, in the KV bookkeeping and in the scheduler's batches."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.engine.kv.slot import Reuse
from cortex.engine.kv.tokens import TokenBuffer
from cortex.engine.sampling.prompt_lookup import find_continuation
from cortex.engine.scheduling.sequence import Sequence
from cortex.engine.vision.spans import ImageSpan, Picture, image_key, placeholders
from cortex.errors import BadRequest
from tests.engine.simulation import Simulation

READY: Future[list[np.ndarray]] = Future()
READY.set_result([])
TEXT = list(range(100, 110))


def prompt(*parts: int | list[int], whole: bool = True, advance: int | None = None) -> TokenBuffer:
    """Texts, and images given by their number; image n has 8 tokens, or 20 where n is odd."""
    tokens: list[int] = []
    spans: list[ImageSpan] = []
    for number, part in enumerate(parts):
        if isinstance(part, list):
            tokens += part
            continue
        count = 20 if part % 2 else 8
        positions = np.zeros((1, count), np.int32)
        span = ImageSpan(Picture([], number), 0, len(tokens), positions, advance or count, whole=whole)
        span.picture.spans.append(span)
        spans.append(span)
        tokens += placeholders(image_key(b"%d" % part, b"k"), 0, count)
    return TokenBuffer(tokens, tuple(spans))


def submit(sim: Simulation, tokens: TokenBuffer, output: int = 2, *, ready: bool = True) -> Sequence:
    for span in tokens.images:
        span.picture.encoding = READY if ready else None
    return sim.submit(tokens, output)


# ---- what stands for an image


def test_placeholders_are_negative_and_made_from_the_image() -> None:
    one = placeholders(image_key(b"1", b"k"), 0, 50)
    assert all(token < 0 for token in one)
    assert one == placeholders(image_key(b"1", b"k"), 0, 50)


@pytest.mark.parametrize(
    ("image", "projector", "index", "count"),
    [(b"2", b"k", 0, 50), (b"1", b"l", 0, 50), (b"1", b"k", 1, 50), (b"1", b"k", 0, 51)],
)
def test_nothing_else_has_the_same_placeholders(image: bytes, projector: bytes, index: int, count: int) -> None:
    """Another image, another projector, another tile, another resolution."""
    one = placeholders(image_key(b"1", b"k"), 0, 50)
    other = placeholders(image_key(image, projector), index, count)
    assert not set(one) & set(other)


def test_positions_behind_an_image_are_fewer_where_rows_and_columns_are_counted_apart() -> None:
    tokens = prompt(TEXT, 2, TEXT, 2, TEXT, advance=3)
    assert [tokens.position(index) for index in (0, 9, 10, 18, 27, 28, 36)] == [0, 9, 10, 13, 22, 23, 26]
    assert prompt(TEXT, 2, TEXT).position(25) == 25


def test_a_cut_inside_an_image_moves_before_it() -> None:
    tokens = prompt(TEXT, 2, TEXT)
    assert [tokens.boundary(length) for length in (9, 10, 11, 17, 18, 19)] == [9, 10, 10, 10, 18, 19]


def test_an_image_is_never_guessed() -> None:
    again = [*TEXT, *prompt(2).view().tolist(), 7, *TEXT]
    assert find_continuation(np.array(again, np.int32), 8) == []
    assert find_continuation(np.array([1, 2, 3, 4, -5, 6, 1, 2, 3], np.int32), 8) == [4]


# ---- batches


def simulation(**sizes: object) -> Simulation:
    return Simulation(**{"cells": 4096, "slots": 16, "parallel": 8, "reuse": Reuse.PARTIAL, **sizes})  # type: ignore[arg-type]


def test_an_image_is_a_batch_of_its_own_and_its_text_waits_for_it() -> None:
    sim = simulation()
    submit(sim, prompt(TEXT, 1, TEXT))
    assert [[(entry.start, entry.count, entry.image is not None) for entry in sim.step(64)] for _ in range(3)] == [
        [(0, 10, False)],
        [(10, 20, True)],
        [(30, 10, False)],
    ]


def test_streams_go_on_while_an_image_is_encoded_and_between_two_images() -> None:
    sim = simulation()
    stream = sim.submit([1, 2, 3], 100)
    sim.step(64)
    looking = submit(sim, prompt(1, 3, 5, 7, TEXT), ready=False)
    for _ in range(5):
        assert [entry.sequence for entry in sim.step(64)] == [stream]
    for span in looking.tokens.images:
        span.picture.encoding = READY
    sequences = [sim.step(64)[0].sequence for _ in range(8)]
    assert sequences == [looking, stream] * 4


def test_with_nothing_else_to_do_an_image_is_waited_for() -> None:
    """Its sequence is neither preempted nor started without it."""
    sim = simulation()
    looking = submit(sim, prompt(1, TEXT), ready=False)
    assert sim.step(64) == sim.step(64) == []
    assert sim.scheduler.running == [looking]
    assert sim.scheduler.preemptions == 0
    looking.tokens.images[0].picture.encoding = READY
    sim.run()
    assert sim.finished == [looking]


def test_an_image_that_could_not_be_encoded_is_not_scheduled() -> None:
    """Its encoding may fail between the step's look at failures and its batch."""
    sim = simulation()
    looking = submit(sim, prompt(1, TEXT), ready=False)
    failed: Future[list[np.ndarray]] = Future()
    failed.set_exception(BadRequest("damaged"))
    looking.tokens.images[0].picture.encoding = failed
    assert sim.step(64) == []
    assert sim.scheduler.running == [looking]


def test_an_image_that_may_be_split_keeps_to_the_budget() -> None:
    sim = simulation()
    submit(sim, prompt(1, TEXT, whole=False))
    assert [entry.count for _ in range(3) for entry in sim.step(8)] == [8, 8, 4]


def test_the_same_image_is_shared_and_another_one_is_not() -> None:
    sim = simulation()
    for image, cached in ((1, 0), (1, 39), (3, 10), (2, 10)):
        sequence = submit(sim, prompt(TEXT, image, TEXT))
        sim.run()
        assert sequence.cached == cached


def test_a_checkpoint_is_never_in_an_image() -> None:
    sim = simulation(reuse=Reuse.EXACT)
    sequence = submit(sim, prompt(list(range(200)), 1, [5]))
    assert sequence.checkpoint_at == 200


@settings(max_examples=150)
@given(data=st.data())
def test_everything_ends_and_no_cell_is_lost_whatever_is_ready_when(data: st.DataObject) -> None:
    """Few cells, shared prefixes, preemption, cancels, late images: memory always is what the bookkeeping says."""
    reuse = data.draw(st.sampled_from(list(Reuse)))
    sim = simulation(cells=128, slots=6, parallel=3, reuse=reuse, host=data.draw(st.sampled_from([0, 500])))
    part = st.one_of(st.sampled_from([1, 2, 3]), st.just(TEXT), st.just([1, 2, 3]))
    whole = data.draw(st.booleans())
    alive: list[Sequence] = []
    for _ in range(data.draw(st.integers(1, 25))):
        match data.draw(st.sampled_from(["submit", "step", "step", "ready", "cancel"])):
            case "submit":
                parts = data.draw(st.lists(part, max_size=4))
                alive.append(submit(sim, prompt(TEXT, *parts, [9], whole=whole), ready=data.draw(st.booleans())))
            case "step":
                sim.step(data.draw(st.sampled_from([4, 32])))
            case "ready":
                make_ready(alive)
            case "cancel" if unfinished := [one for one in alive if one not in sim.finished]:
                sim.cancel(data.draw(st.sampled_from(unfinished)))
    make_ready(alive)
    sim.run()
    assert len(sim.finished) == len(alive)


def make_ready(sequences: list[Sequence]) -> None:
    for sequence in sequences:
        for span in sequence.tokens.images:
            span.picture.encoding = READY
