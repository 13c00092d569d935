"""The sizes of contexts, also the ones for which llama.cpp would end the process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cortex.engine.llama.context import Context
from cortex.engine.llama.context_shape import ContextShape, context_shape
from cortex.engine.llama.library import LogTap, start_backend
from cortex.engine.llama.model import Model
from cortex.wire.worker import LoadSpec


def shape(*, recurrent: bool = False, context_train: int = 0, **fields: Any) -> ContextShape:
    model: Any = SimpleNamespace(recurrent=recurrent, hybrid=False, context_train=context_train)
    return context_shape(LoadSpec("m", "m.gguf", **{"context": 1024, **fields}), model, 2)


def test_a_pool_holds_a_whole_context_for_each_sequence_unless_told() -> None:
    assert shape(parallel=4).cells == 4096
    assert shape(parallel=4, kv_cells=1500).cells == 1500


def test_a_recurrent_model_has_few_ids_to_spare() -> None:
    assert shape(parallel=8, recurrent=True).slots == 12
    assert shape(parallel=8).slots == 104
    assert shape(parallel=250).slots == 255


@pytest.mark.parametrize(("parallel", "ids"), [(1, 2), (4, 8), (100, 64)])
def test_ids_of_an_embedding_context_are_a_power_of_two_that_divides_the_batch(parallel: int, ids: int) -> None:
    made = shape(embedding=True, parallel=parallel, context_train=1000)
    assert made.slots + 1 == ids
    assert made.batch == made.ubatch == 1024
    assert made.batch % ids == 0


def test_threads_of_the_profile_come_before_the_neurons() -> None:
    assert (shape().threads, shape().threads_batch) == (2, 2)
    assert (shape(threads=3).threads, shape(threads=3, threads_batch=5).threads_batch) == (3, 5)


@pytest.mark.parametrize("size", [1, 63])
def test_a_small_batch_has_room_for_every_sequence_id(scripted_path: Path, size: int) -> None:
    """llama.cpp reserves an output for each id, and ended the process where a batch had less room."""
    tap = LogTap()
    tap.install()
    start_backend()
    spec = LoadSpec("m", str(scripted_path), context=256, batch=size, ubatch=size)
    model = Model.load(spec, tap, lambda _: None)
    made = context_shape(spec, model, 1)
    assert made.ubatch == size
    context = Context(model, spec, made, tap)
    context.decode_canary(model.vocab.bos or 0)
    context.close()
    model.close()
