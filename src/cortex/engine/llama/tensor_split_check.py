"""A tensor split that proves itself: what the model says split must be what it says whole.

Splitting within layers is young in llama.cpp and fails for some architectures and device counts, at load or by quietly
computing something else. So a tensor load is followed by a short text, which the same model split by layer has
continued before: where the two disagree, the model stays split by layer. The expected continuation is kept in a file,
so that only the first load of a model pays for computing it.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from llama_cpp import llama_cpp as c
from numpy.typing import NDArray

from cortex.engine.llama.library import LogTap
from cortex.engine.llama.model import Model
from cortex.errors import ModelLoadFailed
from cortex.wire.worker import LoadSpec

__all__ = ["continuation", "disagreement", "load_checked"]

logger = logging.getLogger(__name__)

_PROMPT = "Once upon a time there was a small village by the sea, and in it"
_TOKENS = 8
_TOLERANCE = 0.5
"""Nats. Rounding moves scores by hundredths; a wrongly computed layer by many."""

OnProgress = Callable[[float], None]


def load_checked(spec: LoadSpec, tap: LogTap, on_progress: OnProgress) -> tuple[Model, LoadSpec, str]:
    """The model, the spec as really loaded, and a note where that isn't what was asked. Raises ModelLoadFailed."""
    if spec.split_mode != "tensor" or spec.embedding:
        return Model.load(spec, tap, on_progress), spec, ""
    by_layer = msgspec.structs.replace(spec, split_mode="layer")
    with tap.uncounted():
        expected = _expected(by_layer, tap, on_progress)
    try:
        model = Model.load(spec, tap, on_progress)
    except ModelLoadFailed as error:
        return _fall_back(by_layer, tap, on_progress, error.message)
    try:
        with tap.uncounted():
            gap = disagreement(model, tap, expected)
    except ModelLoadFailed as error:
        model.close()
        return _fall_back(by_layer, tap, on_progress, error.message)
    if gap <= _TOLERANCE:
        return model, spec, "tensor split checked against layer split"
    model.close()
    return _fall_back(by_layer, tap, on_progress, f"it puts another word {gap:.2f} nats above the layer split's")


def continuation(model: Model, tap: LogTap) -> list[int]:
    """The most likely next tokens after the check's prompt. Raises ModelLoadFailed when the model can't decode."""
    found: list[int] = []
    with _stepper(model, tap) as step:
        tokens = model.vocab.prompt_tokens(_PROMPT)[:64]
        for _ in range(_TOKENS):
            found.append(int(step(tokens).argmax()))
            tokens = found[-1:]
    return found


def disagreement(model: Model, tap: LogTap, expected: list[int]) -> float:
    """By how much `model` prefers another token to the expected one, at worst, told the expected ones so far.

    Not a comparison of greedy outputs: rounding differs between splits, and two words that are equally likely may
    change places without anything being wrong. Raises ModelLoadFailed when the model can't decode.
    """
    worst = 0.0
    with _stepper(model, tap) as step:
        tokens = model.vocab.prompt_tokens(_PROMPT)[:64]
        for token in expected:
            logits = step(tokens)
            worst = max(worst, float(logits.max() - logits[token]))
            tokens = [token]
    return worst


@contextmanager
def _stepper(model: Model, tap: LogTap) -> Iterator[Callable[[list[int]], NDArray[np.float32]]]:
    """A small context of its own; call it with the next tokens for the scores of what may follow them."""
    params = c.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max, params.no_perf = 128, 128, 128, 1, True
    with tap.errors() as errors:
        context = c.llama_init_from_model(model.handle, params)
    if not context:
        raise ModelLoadFailed(errors[0] if errors else "llama.cpp can't make a context for it")

    def step(tokens: list[int]) -> NDArray[np.float32]:
        ids = (ctypes.c_int32 * len(tokens))(*tokens)  # the batch only points to it
        if code := int(c.llama_decode(context, c.llama_batch_get_one(ids, len(ids)))):
            raise ModelLoadFailed(f"llama_decode returned {code} in the check of the split")
        return np.ctypeslib.as_array(c.llama_get_logits_ith(context, -1), shape=(model.vocab.size,))

    try:
        yield step
    finally:
        c.llama_free(context)


def _expected(by_layer: LoadSpec, tap: LogTap, on_progress: OnProgress) -> list[int]:
    path = Path(by_layer.parity_file) if by_layer.parity_file else None
    if path is not None and path.exists():
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[int])
        except msgspec.DecodeError:
            logger.warning("the stored continuation is unreadable, computing it anew: %s", path)
    model = Model.load(by_layer, tap, on_progress)
    try:
        found = continuation(model, tap)
    finally:
        model.close()
    if path is not None:
        _keep(path, found)
    return found


def _keep(path: Path, found: list[int]) -> None:
    """For the next load; one that can't be written is computed anew then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(found))
    except OSError as error:
        logger.warning("the continuation isn't kept path=%s error=%s", path, error)


def _fall_back(by_layer: LoadSpec, tap: LogTap, on_progress: OnProgress, why: str) -> tuple[Model, LoadSpec, str]:
    note = f"split by layer, since the tensor split failed: {why}"
    logger.warning("%s: %s", by_layer.model, note)
    tap.buffers()  # those of the model just freed
    return Model.load(by_layer, tap, on_progress), by_layer, note
