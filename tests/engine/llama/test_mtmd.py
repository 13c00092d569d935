"""What the engine computes for a prompt with images is what llama.cpp's own multimodal helper computes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import llama_cpp as c
from llama_cpp import mtmd_cpp as m
from numpy.typing import NDArray

from cortex.engine.kv.slot import CopyPrefix, Slot, Truncate
from cortex.engine.kv.tokens import TokenBuffer
from cortex.engine.llama.context import Context
from cortex.engine.llama.context_shape import ContextShape
from cortex.engine.llama.library import LogTap
from cortex.engine.llama.model import Model
from cortex.engine.llama.mtmd import MAX_IMAGES, Projector
from cortex.engine.scheduling.sequence import Entry, Sequence
from cortex.engine.vision.spans import PreparedPrompt
from cortex.errors import BadRequest, ModelLoadFailed, UnsupportedValue
from cortex.wire.worker import LoadSpec
from tests.pictures import BLUE, RED, Kind, build_projector, build_random, build_seeing, png

pytestmark = pytest.mark.model

PARTS: list[str | bytes] = ["look: ", png(RED), " then ", png(BLUE, 64, 40), " so?"]
ROUNDING = 1e-3
"""Of two batches' shapes, with keys and values kept as f16; another picture moves logits by a hundred times as much."""
SHAPE = ContextShape(256, 8, 128, 64, 1, 1)


@dataclass
class Seeing:
    """A model, its projector and a context for it."""

    model: Model
    projector: Projector
    context: Context

    def sequence(self, prompt: PreparedPrompt, slot: int) -> Sequence:
        tokens = TokenBuffer(prompt.tokens, prompt.spans)
        return Sequence("r", 0, tokens, len(tokens), 1, slot=Slot(slot, tokens, None))

    def compute(self, sequence: Sequence, start: int = 0) -> NDArray[np.float32]:
        """Compute everything from token `start` on; the logits after the last token."""
        slot, tokens = sequence.slot, sequence.tokens
        assert slot is not None
        slot.length = start
        while slot.length < len(tokens):
            image = sequence.image
            following = tokens.next_image(slot.length)
            end = image.end if image else following.start if following else len(tokens)
            entry = Entry(sequence, slot.length, end - slot.length, int(end == len(tokens)), image=image)
            if image:
                future: Future[Any] = Future()
                future.set_result(self.projector.encode(image.picture))
                image.picture.encoding = future
                self.projector.decode(self.context, entry)
            else:
                rows = self.context.decode([entry])
            slot.length = end
        return self.context.logits(rows[0]).copy()

    def reference(self, parts: list[str | bytes], slot: int) -> tuple[NDArray[np.float32], int]:
        """The same by libmtmd's own helper, and the position after it."""
        chunks = m.mtmd_input_chunks_init()
        marker = m.mtmd_default_marker().decode()
        text = "".join(part if isinstance(part, str) else marker for part in parts).encode()
        images = [part for part in parts if isinstance(part, bytes)]
        bitmaps = (ctypes.c_void_p * len(images))(
            *(
                m.mtmd_helper_bitmap_init_from_buf(
                    self.projector.handle,
                    ctypes.cast(ctypes.c_char_p(image), ctypes.POINTER(ctypes.c_uint8)),
                    len(image),
                    False,
                )
                for image in images
            )
        )
        prompt = m.mtmd_input_text(text=text, text_len=len(text), add_special=True, parse_special=True)
        assert not m.mtmd_tokenize(self.projector.handle, chunks, ctypes.byref(prompt), bitmaps, len(images))
        past = c.llama_pos(0)
        code = m.mtmd_helper_eval_chunks(
            self.projector.handle, self.context.handle, chunks, 0, slot, SHAPE.batch, True, ctypes.byref(past)
        )
        assert code == 0
        m.mtmd_input_chunks_free(chunks)
        for bitmap in bitmaps:
            m.mtmd_bitmap_free(bitmap)
        return self.context.logits(-1).copy(), past.value

    def next_reference(self, token: int, slot: int, position: int) -> NDArray[np.float32]:
        batch = c.llama_batch_init(1, 0, 1)
        batch.n_tokens, batch.token[0], batch.pos[0], batch.logits[0] = 1, token, position, 1
        batch.n_seq_id[0], batch.seq_id[0][0] = 1, slot
        assert not c.llama_decode(self.context.handle, batch)
        c.llama_batch_free(batch)
        return self.context.logits(0).copy()

    def forget(self, slot: int) -> None:
        self.context.apply(Truncate(slot, 0))


def open_model(directory: Path, kind: Kind, ubatch: int = SHAPE.ubatch, side: int = 8) -> Seeing:
    model_path = build_random(directory / f"{kind}.gguf", "qwen2vl" if kind == "qwen2vl" else "llama")
    random = np.random.default_rng(5)
    red, blue = (random.standard_normal(64, dtype=np.float32) for _ in range(2))
    projector = build_projector(directory / f"mmproj-{kind}.gguf", red, blue, kind, side=side)
    tap = LogTap()
    tap.install()
    spec = LoadSpec("m", str(model_path), context=SHAPE.cells, devices=["CPU"], mmproj=str(projector))
    model = Model.load(spec, tap, lambda _fraction: None)
    try:
        eye = Projector.load(spec, model, tap, threads=1, ubatch=ubatch)
    except BaseException:
        model.close()
        raise
    return Seeing(model, eye, Context(model, spec, SHAPE, tap))


@pytest.fixture(scope="module", params=["mlp", "gemma3", "qwen2vl"])
def seeing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeing]:
    opened = open_model(tmp_path_factory.mktemp("seeing"), request.param)
    yield opened
    opened.context.close()
    opened.projector.close()
    opened.model.close()


def test_the_logits_are_those_of_llama_cpps_own_helper(seeing: Seeing) -> None:
    """For an image that is attended to causally, in both directions, and with rows and columns counted separately."""
    prompt = seeing.projector.layout(PARTS)
    assert [span.start for span in prompt.spans] == sorted(span.start for span in prompt.spans)
    sequence = seeing.sequence(prompt, 1)
    ours = seeing.compute(sequence)
    theirs, past = seeing.reference(PARTS, 2)
    np.testing.assert_allclose(ours, theirs, atol=ROUNDING)
    assert np.ptp(ours) > 0.1
    assert sequence.tokens.position(len(sequence.tokens)) == past
    sequence.tokens.append(65)
    ours = seeing.compute(sequence, len(sequence.tokens) - 1)
    np.testing.assert_allclose(ours, seeing.next_reference(65, 2, past), atol=ROUNDING)
    seeing.forget(1)
    seeing.forget(2)


def test_a_marker_across_two_texts_is_text_beside_an_image(seeing: Seeing) -> None:
    vocab = seeing.model.vocab
    assert vocab.eos is not None
    whole = seeing.projector.layout(["a </s>", png(RED), " b"]).tokens
    pieces = seeing.projector.layout(["a <", "/s>", png(RED), " b"]).tokens
    assert vocab.eos in whole
    assert vocab.eos not in pieces
    text = b"".join(vocab.piece(token) for token in pieces if token >= 0)
    assert b"</s>" in text.replace(b" ", b"")  # libmtmd puts SentencePiece's blank in front of every text


def test_another_picture_gives_other_logits(seeing: Seeing) -> None:
    one = seeing.compute(seeing.sequence(seeing.projector.layout(["a ", png(RED), " b"]), 1))
    seeing.forget(1)
    other = seeing.compute(seeing.sequence(seeing.projector.layout(["a ", png(BLUE), " b"]), 1))
    seeing.forget(1)
    assert np.abs(one - other).max() > 0.1


def test_a_copied_prefix_with_images_is_as_good_as_a_computed_one(seeing: Seeing) -> None:
    """After an image whose rows and columns are counted separately, lengths in tokens and in positions differ."""
    first = seeing.sequence(seeing.projector.layout(PARTS), 1)
    expected = seeing.compute(first)
    shared = len(first.tokens) - 3
    seeing.context.apply(CopyPrefix(1, 2, first.tokens.position(shared)))
    again = seeing.sequence(seeing.projector.layout(PARTS), 2)
    np.testing.assert_allclose(seeing.compute(again, shared), expected, atol=ROUNDING)
    seeing.forget(1)
    seeing.forget(2)


def test_a_saved_state_with_images_comes_back(seeing: Seeing) -> None:
    first = seeing.sequence(seeing.projector.layout(PARTS), 1)
    expected = seeing.compute(first)
    state = seeing.context.save_slot(1)
    seeing.forget(1)
    assert seeing.context.restore_slot(3, state)
    shared = len(first.tokens) - 3
    seeing.context.apply(Truncate(3, first.tokens.position(shared)))
    again = seeing.sequence(seeing.projector.layout(PARTS), 3)
    np.testing.assert_allclose(seeing.compute(again, shared), expected, atol=ROUNDING)
    seeing.forget(3)


def test_the_prompts_tokens_are_those_of_the_text_around_its_images(seeing: Seeing) -> None:
    prompt = seeing.projector.layout(PARTS)
    text = [token for token in prompt.tokens if token >= 0]
    assert text[0] == seeing.model.vocab.bos
    assert text[1:7] == seeing.model.vocab.tokenize("look: ")
    assert text[-4:] == seeing.model.vocab.tokenize(" so?")


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 1), (3000, 31), (20, 2000), (1001, 999)])
def test_odd_sizes_are_laid_out_as_they_are_encoded(seeing: Seeing, size: tuple[int, int]) -> None:
    prompt = seeing.projector.layout(["a", png(RED, *size), "b"])
    found = seeing.projector.encode(prompt.pictures[0])
    assert [len(rows) for rows in found] == [span.count for span in prompt.spans]


def test_a_damaged_image_is_the_callers_mistake(seeing: Seeing) -> None:
    whole = png(RED)
    with pytest.raises(BadRequest, match="damaged"):
        seeing.projector.layout(["a", whole[:60], "b"])
    with pytest.raises(BadRequest, match="damaged"):
        seeing.projector.layout(["a", whole[:33] + b"\0" * 40, "b"])


def test_images_are_counted(seeing: Seeing) -> None:
    many: list[str | bytes] = [png((number, 0, 0), 1, 1) for number in range(MAX_IMAGES + 1)]
    with pytest.raises(BadRequest, match="101 images"):
        seeing.projector.layout([*many, "b"])


def test_something_must_follow_the_last_image(tmp_path: Path) -> None:
    """Sampling starts from a token's logits, and an image has none."""
    opened = open_model(tmp_path, "mlp")
    with pytest.raises(UnsupportedValue, match="nothing follows"):
        opened.projector.layout(["a", png(RED)])


def test_an_image_that_must_be_seen_at_once_has_to_fit_a_physical_batch(tmp_path: Path) -> None:
    """llama.cpp would end the process."""
    with pytest.raises(ModelLoadFailed, match=r"set ubatch = 16"):
        open_model(tmp_path, "gemma3", ubatch=8, side=16)


@pytest.mark.parametrize("damage", ["cut", "foreign", "another width", "missing"])
def test_a_projector_that_cannot_be_used_is_a_clear_load_failure(tmp_path: Path, damage: str) -> None:
    text, projector = build_seeing(tmp_path)
    match damage:
        case "cut":
            projector.write_bytes(projector.read_bytes()[:4000])
        case "foreign":
            projector.write_bytes(text.read_bytes())
        case "another width":
            build_projector(projector, np.zeros(96, np.float32), np.zeros(96, np.float32))
        case "missing":
            projector.unlink()
    tap = LogTap()
    tap.install()
    spec = LoadSpec("m", str(text), context=256, devices=["CPU"], mmproj=str(projector))
    model = Model.load(spec, tap, lambda _fraction: None)
    with pytest.raises(ModelLoadFailed, match=f"mmproj.*{projector.name}"):
        Projector.load(spec, model, tap, threads=1, ubatch=64)
    model.close()
