"""Isolation with hundreds of conversations: an answer is read from the conversation's own KV cells alone.

Each conversation ends with one of sixty marks, and the model's script repeats that mark's canary. Which canary comes
next is decided by attention to the mark, so a cell of another conversation in the wrong place changes the words.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cortex.wire.events import Failed, Finished
from cortex.wire.inference import InferenceRequest, Sampling
from cortex.wire.worker import Cancel, Heartbeat, LoadSpec, Submit
from tests.engine.harness import WorkerProcess, raw, text_of
from tests.scripted import build_scripted

pytestmark = pytest.mark.model

REQUESTS = 500
MARKS = [f"<|m{number}|>" for number in range(60)]
CANARIES = [f"canary{number:02} " for number in range(60)]
SCRIPTS = {mark: ["secret: ", canary] * 16 + ["."] for mark, canary in zip(MARKS, CANARIES, strict=True)}
SYSTEMS = [f"system {number}: keep what you are told, say it when asked, and nothing else. " * 2 for number in range(6)]


def test_no_canary_of_500_conversations_shows_up_in_another(tmp_path: Path) -> None:
    """Shared prefixes, later turns, choices, cancels, in a pool that is too short for those that run in it."""
    rng = random.Random(23)
    path = build_scripted(tmp_path / "canaries.gguf", SCRIPTS, context=512)
    spec = LoadSpec("m", str(path), context=512, parallel=16, kv_cells=768, host_cache_bytes=8 << 20)
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(spec)
        marks = [rng.randrange(len(MARKS)) for _ in range(REQUESTS)]
        requests = [_request(rng, number, mark) for number, mark in enumerate(marks)]
        worker.send(*map(Submit, requests))
        cancelled = {request.id for request in rng.sample(requests, 25)}
        worker.send(*map(Cancel, cancelled))
        worker.finish(*(request.id for request in requests if request.id not in cancelled), deadline_s=400)
        for request, mark in zip(requests, marks, strict=True):
            _check(worker, request, mark, complete=request.id not in cancelled)
        worker.notices.clear()
        stats = worker.wait(Heartbeat).models[0]
    assert stats.preemptions > 10
    assert stats.cached_tokens > 10_000
    assert (stats.running, stats.waiting, stats.kv_used) == (0, 0, 0)


def _request(rng: random.Random, number: int, mark: int) -> InferenceRequest:
    """A first or a second turn, in one of the ways in which requests differ."""
    history = ""
    if rng.random() < 0.4:
        earlier = rng.randrange(len(MARKS))
        history = f"user {earlier}{MARKS[earlier]}{''.join(SCRIPTS[MARKS[earlier]])} "
    return raw(
        f"r{number}",
        f"{rng.choice(SYSTEMS)}{history}user {rng.randrange(40)}{'!' * rng.randrange(12)}{MARKS[mark]}",
        n=rng.choice([1, 1, 1, 1, 2]),
        max_output=rng.choice([None, None, None, 9]),
        logprobs=rng.choice([None, None, None, 2]),
        cache_prompt=rng.random() < 0.9,
        priority=rng.choice([0, 0, 1]),
        principal=rng.choice([None, "ann", "bob"]),
        sampling=Sampling(temperature=rng.choice([0.0, 0.8]), seed=number),
    )


def _check(worker: WorkerProcess, request: InferenceRequest, mark: int, *, complete: bool) -> None:
    events = worker.events.get(request.id, [])
    assert not any(isinstance(event, Failed) for event in events)
    expected = "".join(SCRIPTS[MARKS[mark]][: request.max_output])
    for choice in range(request.n):
        text = text_of(events, choice)
        wanted = expected if complete else expected[: len(text)]
        assert text == wanted, f"{request.id} was told {CANARIES[mark]}"
    if complete:
        assert isinstance(events[-1], Finished)
