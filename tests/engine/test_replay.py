"""An answer moved to another worker goes on as it would have gone on: the same text, whatever was drawn before."""

from __future__ import annotations

import pytest

from cortex.wire.events import ChoiceFinished, Finished, Started, Tokens
from cortex.wire.inference import Sampling
from cortex.wire.worker import LoadSpec
from tests.engine.harness import WorkerProcess, only, raw, text_of

PROMPT = "Once upon a time there was a small robot who"


@pytest.mark.model
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0, seed=7),
        Sampling(temperature=1.3, seed=8, repeat_penalty=1.3, top_p=1.0, top_k=0, min_p=0.0),
        Sampling(temperature=0.0),
    ],
    ids=["seeded", "seeded with penalties", "greedy"],
)
def test_a_replayed_beginning_is_continued_as_if_nothing_had_happened(
    smol: WorkerProcess, sampling: Sampling, request: pytest.FixtureRequest
) -> None:
    """The sampler takes one random number per token, those that are replayed included. What lies in the KV pool shifts
    the rounding, so nothing is taken from it."""
    name, asked = request.node.name, {"max_output": 32, "sampling": sampling, "cache_prompt": False}
    whole = smol.run(raw(f"{name} whole", PROMPT, report_tokens=True, **asked))
    ids = [token for event in whole if isinstance(event, Tokens) for token in event.ids]
    for cut in (1, 5, 16, 31):
        moved = smol.run(raw(f"{name} {cut}", PROMPT, replay=ids[:cut], **asked))
        assert text_of(moved)
        assert text_of(whole).endswith(text_of(moved)), cut
        assert only(moved, Finished).usage.completion_tokens == only(whole, Finished).usage.completion_tokens
        assert only(moved, ChoiceFinished) == only(whole, ChoiceFinished)


@pytest.mark.parametrize(
    ("sampling", "movable"),
    [
        (Sampling(temperature=0.0), True),
        (Sampling(temperature=0.8, seed=1), True),
        (Sampling(temperature=0.8), False),
        (Sampling(temperature=0.8, seed=1, mirostat=2), False),
        (Sampling(temperature=0.8, seed=1, xtc_probability=0.5), False),
    ],
)
def test_the_start_says_whether_the_answer_can_move(scripted: WorkerProcess, sampling: Sampling, movable: bool) -> None:
    events = scripted.run(raw(f"movable {sampling}", "say<|go|>", max_output=1, sampling=sampling))
    assert only(events, Started).movable is movable


def test_what_is_replayed_is_no_input(scripted_path: object) -> None:
    """A limit on a request's input doesn't refuse it because its answer has begun elsewhere."""
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(LoadSpec("m", str(scripted_path), context=1024, parallel=8, limit_input=6))
        whole = worker.run(raw("whole", "say<|go|>", report_tokens=True))
        ids = [token for event in whole if isinstance(event, Tokens) for token in event.ids]
        assert text_of(worker.run(raw("moved", "say<|go|>", replay=ids[:5]))) == "😀!"
