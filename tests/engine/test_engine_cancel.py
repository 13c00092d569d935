"""Cancelling one request while another computes its prompt."""

from __future__ import annotations

import pytest

from cortex.wire.events import Finished
from cortex.wire.inference import Sampling
from cortex.wire.worker import Cancel, Submit
from tests.engine.harness import WorkerProcess, raw

LONG = "The quick brown fox jumps over the lazy dog near the river bank while the sun sets slowly. " * 30

pytestmark = pytest.mark.model


def test_a_cancel_beside_a_long_prefill_leaves_the_others_going(smol: WorkerProcess) -> None:
    """A public bug of this kind: llama.cpp#27604. One that decodes and one that waits are cancelled; the prompt in work
    is finished and answered, and the worker takes the next request."""
    smol.submit(raw("decoding", "Once", max_output=1500, sampling=Sampling(temperature=0.0, ignore_eos=True)))
    smol.until(lambda: len(smol.events.get("decoding", [])) > 2)
    smol.send(
        Submit(raw("prefilling", LONG, max_output=2, cache_prompt=False)),
        Submit(raw("waiting", LONG + "And then", max_output=2, cache_prompt=False)),
        Cancel("decoding"),
        Cancel("waiting"),
    )
    smol.finish("prefilling")
    assert isinstance(smol.events["prefilling"][-1], Finished)
    assert isinstance(smol.run(raw("next", "Once", max_output=2))[-1], Finished)
    assert not smol.ended("decoding")
    assert not smol.ended("waiting")
