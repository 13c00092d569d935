"""A model whose memory can't be rolled back: shared prefixes, cancels and preemption change nothing in its text."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cortex.wire.events import Finished, TextDelta
from cortex.wire.inference import Sampling
from cortex.wire.worker import Cancel, LoadSpec, Submit
from tests.engine.harness import WorkerProcess, only, raw, text_of
from tests.engine.recurrent import build_mamba

pytestmark = pytest.mark.model

GREEDY = Sampling(temperature=0.0, ignore_eos=True)
SHARED = "All of these begin with the same long sentence, which is worth computing once. " * 3


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    path = build_mamba(tmp_path_factory.mktemp("gguf") / "mamba.gguf")
    with WorkerProcess("--cpu-threads", "1") as process:
        process.load(LoadSpec("m", str(path), context=1024, parallel=4))
        yield process


def answer(worker: WorkerProcess, name: str, prompt: str, **fields: object) -> tuple[str, int]:
    events = worker.run(raw(name, prompt, max_output=24, sampling=GREEDY, **fields))
    assert any(isinstance(event, TextDelta) for event in events), events
    return text_of(events), only(events, Finished).usage.cached_tokens


def test_a_diverging_prompt_gives_the_text_of_a_cold_one(worker: WorkerProcess) -> None:
    answer(worker, "first", SHARED + "one")
    warm = answer(worker, "warm", SHARED + "two")
    cold = answer(worker, "cold", SHARED + "two", cache_prompt=False)
    assert warm[0] == cold[0]
    assert cold[1] == 0


def test_a_continued_conversation_starts_where_it_stopped(worker: WorkerProcess) -> None:
    from cortex.wire.events import Tokens

    events = worker.run(raw("turn", SHARED + "three", max_output=12, sampling=GREEDY, report_tokens=True))
    said = [token for event in events if isinstance(event, Tokens) for token in event.ids]
    prompt = [1, *(byte + 3 for byte in (" " + SHARED + "three").encode()), *said, 70, 71]
    following = worker.run(raw("next", prompt, max_output=12, sampling=GREEDY))
    cold = worker.run(raw("next cold", prompt, max_output=12, sampling=GREEDY, cache_prompt=False))
    assert text_of(following) == text_of(cold)


def test_prompts_sent_together_share_a_prefix_stopped_at_exactly(worker: WorkerProcess) -> None:
    together = "Sent at one time, these prompts have this much in common and no more than that. " * 3
    requests = [raw(f"t{i}", f"{together}{i}", max_output=16, sampling=GREEDY) for i in range(4)]
    names = [request.id for request in requests]
    worker.send(*map(Submit, requests))
    worker.finish(*names)
    cached = [only(worker.events[name], Finished).usage.cached_tokens for name in names]
    assert sum(count > 200 for count in cached) >= 2
    for i, name in enumerate(names):
        alone = worker.run(raw(f"{name} alone", f"{together}{i}", max_output=16, sampling=GREEDY, cache_prompt=False))
        assert text_of(worker.events[name]) == text_of(alone)


def test_a_prompt_is_found_again_although_its_answer_is_not(worker: WorkerProcess) -> None:
    """As when a template drops the reasoning of earlier turns."""
    prompt = "This prompt comes twice, and what was answered to it the first time is forgotten. " * 3
    answer(worker, "answered", prompt)
    warm = answer(worker, "again", prompt + "! And then?")
    cold = answer(worker, "again cold", prompt + "! And then?", cache_prompt=False)
    assert warm[1] > 200
    assert warm[0] == cold[0]


def test_a_cancelled_neighbour_leaves_the_others_text_alone(worker: WorkerProcess) -> None:
    expected, _ = answer(worker, "expected", "Undisturbed", cache_prompt=False)
    worker.send(
        Submit(raw("doomed", "x" * 900, max_output=100, sampling=GREEDY)),
        Submit(raw("disturbed", "Undisturbed", max_output=24, sampling=GREEDY, cache_prompt=False)),
        Cancel("doomed"),
    )
    worker.finish("disturbed")
    assert text_of(worker.events["disturbed"]) == expected
