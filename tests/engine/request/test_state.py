"""An answer moved to another worker continues with the text that it would have had, whatever was drawn before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cortex.wire.events import ChoiceFinished, Event, Finished, Started, Tokens
from cortex.wire.inference import Sampling
from cortex.wire.worker import LoadSpec
from tests.engine.harness import WorkerProcess, only, raw, text_of
from tests.pictures import build_random

PROMPT = "Once upon a time there was a small robot who"


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A model in f32 whose text differs with every seed. A batch's shape moves its logits by next to nothing;
    a quantised model's move enough, on some CPUs, for another token to be drawn."""
    path = build_random(tmp_path_factory.mktemp("gguf") / "noise.gguf", "llama")
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(LoadSpec("m", str(path), context=512, parallel=4, prompt_lookup=False))
        yield worker


def ids_of(events: list[Event]) -> list[int]:
    return [token for event in events if isinstance(event, Tokens) for token in event.ids]


@pytest.mark.model
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0, seed=7, ignore_eos=True),
        Sampling(temperature=1.3, seed=8, repeat_penalty=1.3, top_p=1.0, top_k=0, min_p=0.0, ignore_eos=True),
        Sampling(temperature=0.0, ignore_eos=True),
    ],
    ids=["seeded", "seeded with penalties", "greedy"],
)
def test_a_replayed_beginning_is_continued_as_if_nothing_had_happened(
    noise: WorkerProcess, sampling: Sampling, request: pytest.FixtureRequest
) -> None:
    """The sampler takes one random number per token, those that are replayed included."""
    asked = {"max_output": 32, "sampling": sampling, "cache_prompt": False, "report_tokens": True}
    name = request.node.name
    whole = noise.run(raw(f"{name} whole", PROMPT, **asked))
    ids = ids_of(whole)
    assert len(ids) == 32
    for cut in (1, 5, 16, 31):
        moved = noise.run(raw(f"{name} {cut}", PROMPT, replay=ids[:cut], **asked))
        assert ids_of(moved) == ids[cut:]
        assert only(moved, Finished).usage.completion_tokens == only(whole, Finished).usage.completion_tokens
        assert only(moved, ChoiceFinished) == only(whole, ChoiceFinished)


@pytest.mark.model
def test_the_same_seed_gives_the_same_tokens(noise: WorkerProcess) -> None:
    def drawn(name: str, seed: int) -> list[int]:
        sampling = Sampling(temperature=1.0, seed=seed, ignore_eos=True)
        asked = {"max_output": 20, "sampling": sampling, "cache_prompt": False, "report_tokens": True}
        return ids_of(noise.run(raw(name, PROMPT, **asked)))

    assert drawn("once", 7) == drawn("twice", 7) != drawn("other", 8)


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
