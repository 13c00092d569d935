"""The sizes of a model's context: what `loading.load` makes, and what a dry run plans."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from cortex.engine.llama.model import Model
from cortex.wire.worker import LoadSpec

__all__ = ["ContextShape", "context_shape", "input_length"]

_CACHED_SLOTS = 96
"""Sequence ids beyond the running ones, for prefixes of finished requests. In a unified pool an id costs nothing."""
_RECURRENT_SLOTS = 4
"""The same for recurrent models at most, where each id has a state of its own in memory."""
_MOST_SLOTS = 255
"""llama.cpp's limit (llama-cparams.h, LLAMA_MAX_SEQ = 256), less the canary's."""
_MOST_INPUTS = 64
"""Inputs that are embedded in one batch."""


@dataclass(frozen=True, slots=True)
class ContextShape:
    """`cells`, `batch` (logical) and `ubatch` (physical) in tokens; `slots`: sequence ids, without the canary's."""

    cells: int
    slots: int
    batch: int
    ubatch: int
    threads: int
    threads_batch: int


def context_shape(spec: LoadSpec, model: Model, threads: int | None) -> ContextShape:
    """The context for `spec`. `threads`: where the profile names none; None = the physical cores."""
    if spec.embedding:
        return _vector_shape(spec, model, threads)
    cells = spec.kv_cells or spec.context * spec.parallel
    slots = min(_MOST_SLOTS, spec.parallel + _extra_slots(spec, model))
    # llama.cpp asserts that a batch has room for an output of every sequence id (llama-context.cpp, output_reserve)
    batch = max(spec.batch, spec.ubatch, 16 * spec.parallel, slots + 1)
    return ContextShape(cells, slots, batch, min(spec.ubatch, batch), *_threads(spec, threads))


def input_length(spec: LoadSpec, model: Model) -> int:
    """Tokens that one input of an embedding model may have."""
    return min(spec.context, model.context_train or spec.context)


def _extra_slots(spec: LoadSpec, model: Model) -> int:
    return min(spec.parallel, _RECURRENT_SLOTS) if model.recurrent or model.hybrid else _CACHED_SLOTS


def _vector_shape(spec: LoadSpec, model: Model, threads: int | None) -> ContextShape:
    """An input is attended to as a whole, so it must fit one physical batch.

    llama.cpp reserves for a batch rounded up to a multiple of its sequence ids, counts the outputs before rounding,
    and asserts that both agree (llama-context.cpp, graph_reserve): so the ids, ours and the canary's, are a power of
    two that divides the batch.
    """
    ids = min(_MOST_INPUTS, 1 << max(1, spec.parallel).bit_length())
    batch = -(-max(input_length(spec, model), spec.ubatch) // _MOST_INPUTS) * _MOST_INPUTS
    return ContextShape(max(spec.kv_cells or 0, batch), ids - 1, batch, batch, *_threads(spec, threads))


def _threads(spec: LoadSpec, default: int | None) -> tuple[int, int]:
    """Threads for single rows and for batches. Physical cores unless told: hyper-threads of a core share its units."""
    threads = spec.threads or default or psutil.cpu_count(logical=False) or 1
    return threads, spec.threads_batch or threads
