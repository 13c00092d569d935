"""Requests for vectors: one that raises ends alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from cortex.engine.embedding_engine import EmbeddingEngine, PreparedInputs
from cortex.wire.events import Embedded, Failed, Finished, Started
from cortex.wire.inference import EmbeddingRequest


class Pools:
    """A context whose vector of the input [13] can't be read."""

    shape = SimpleNamespace(slots=4, batch=64)
    pooling = 1

    def decode_inputs(self, inputs: list[list[int]]) -> None:
        self.inputs = inputs

    def pooled(self, number: int, width: int) -> np.ndarray:
        if self.inputs[number] == [13]:
            raise RuntimeError("no vector")
        return np.ones(width, dtype=np.float32)


def test_a_request_whose_vector_cant_be_read_ends_alone() -> None:
    """Its inputs that are in later batches aren't computed."""
    weights: Any = SimpleNamespace(embedding_width=2, vocab=SimpleNamespace(bos=1))
    context: Any = Pools()
    engine = EmbeddingEngine("m", weights, context)
    for name, inputs in {"doomed": [[13], [2], [3], [4], [5]], "beside": [[2], [3]]}.items():
        engine.submit(PreparedInputs(EmbeddingRequest(name, "m", list(inputs)), inputs), 0.0)
    events: dict[str, list[type]] = {}
    while engine.busy:
        for item in engine.step():
            events.setdefault(item.request_id, []).extend(type(event) for event in item.events)
        engine.check_integrity()
    assert events == {"doomed": [Started, Failed], "beside": [Started, Embedded, Embedded, Finished]}
