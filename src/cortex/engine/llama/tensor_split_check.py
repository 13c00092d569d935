"""Checks a model split within layers ("tensor") against the same model split by layer, and falls back to the latter.

Splitting within layers is new in llama.cpp and fails for some architectures and device counts, at load or by computing
something else without an error. So after a tensor load a short text is decoded, which the same model split by layer has
continued before; where the two disagree, the model is loaded split by layer. The expected continuation is kept in a
file (`LoadSpec.parity_file`), so that only the first load of a model has to compute it.
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
"""Nats. Rounding moves scores by hundredths (SmolLM2 over two CPU RPC devices), a wrongly computed layer by whole
nats."""

OnProgress = Callable[[float], None]


def load_checked(spec: LoadSpec, tap: LogTap, on_progress: OnProgress) -> tuple[Model, LoadSpec, str]:
    """The model, the spec as it was really loaded, and a note for the operator on the check of a tensor split.

    Raises ModelLoadFailed, or NoRoom.
    """
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
    return _fall_back(by_layer, tap, on_progress, f"it prefers another token by {gap:.2f} nats to the layer split's")


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
    """By how many nats `model` prefers another token to the expected one, at most, given the expected ones before it.

    Not a comparison of greedy outputs: rounding differs between splits, and two tokens that are equally likely may
    change places without an error. Raises ModelLoadFailed when the model can't decode.
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
    """A small context of its own: a function that decodes the next tokens and returns the logits after the last one."""
    params = c.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max, params.no_perf = 128, 128, 128, 1, True
    with tap.errors() as errors:
        context = c.llama_init_from_model(model.handle, params)
    if not context:
        raise ModelLoadFailed(errors[0] if errors else "llama.cpp can't make a context for it")

    def step(tokens: list[int]) -> NDArray[np.float32]:
        ids = (ctypes.c_int32 * len(tokens))(*tokens)  # the batch has a pointer to it
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
            logger.warning("the stored continuation is unreadable and computed again path=%s", path)
    model = Model.load(by_layer, tap, on_progress)
    try:
        found = continuation(model, tap)
    finally:
        model.close()
    if path is not None:
        _store(path, found)
    return found


def _store(path: Path, found: list[int]) -> None:
    """For the next load, which computes it again if it can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(found))
    except OSError as error:
        logger.warning("the continuation could not be written path=%s error=%s", path, error)


def _fall_back(by_layer: LoadSpec, tap: LogTap, on_progress: OnProgress, why: str) -> tuple[Model, LoadSpec, str]:
    note = f"split by layer, since the tensor split failed: {why}"
    logger.warning("tensor split refused model=%s note=%s", by_layer.model, note)
    tap.buffers()  # those of the model just freed
    return Model.load(by_layer, tap, on_progress), by_layer, note
