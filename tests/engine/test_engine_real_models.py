"""What only a real model shows: sharing, isolation, cancelling inside a prefill, vectors. SmolLM2 and Gemma 3 270M."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cortex.wire.events import Embedded, Event, Failed, Finished, Started, TextDelta, TokenLogprob, Tokens
from cortex.wire.inference import EmbeddingRequest, InferenceRequest, Message, Sampling, Text
from cortex.wire.worker import Cancel, Heartbeat, LoadSpec
from tests.engine.harness import GREEDY, WorkerProcess, chat, only, raw, text_of
from tests.models import gemma, smollm2

pytestmark = pytest.mark.model

QUESTIONS = [
    "What is the capital of Germany?",
    "Name three colours.",
    "How many legs has a spider?",
    "Write one sentence about the sea.",
    "What is two plus two?",
]
SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank while the sun sets slowly. "
LONG = SENTENCE * 10
CONVERSATION = SENTENCE * 24  # as long as a turn's few new tokens need to be a twentieth
BEYOND_THE_WINDOW = SENTENCE * 28  # Gemma's, of 512 tokens


def usage(events: list[object]) -> tuple[int, int]:
    found = only(events, Finished).usage  # type: ignore[arg-type]
    return found.prompt_tokens, found.cached_tokens


def test_greedy_text_is_the_same_alone_and_among_others(smol: WorkerProcess) -> None:
    """Equal but for ties: a batch row more or less changes the last bits of a logit."""
    wanted = {"max_output": 12, "cache_prompt": False, "logprobs": 2}
    alone = [scored(smol.run(chat(f"alone {i}", question, **wanted))) for i, question in enumerate(QUESTIONS)]
    names = [smol.submit(chat(f"among {i}", question, **wanted)) for i, question in enumerate(QUESTIONS)]
    smol.finish(*names)
    for by_itself, name in zip(alone, names, strict=True):
        assert_same_but_for_ties(by_itself, [token.token_id for token in scored(smol.events[name])])


def assert_same_but_for_ties(scores: list[TokenLogprob], ids: list[int]) -> None:
    """Two greedy answers agree up to where the two best tokens were nearly tied, which rounding decides."""
    for mine, other in zip(scores, ids, strict=False):
        if mine.token_id != other:
            assert other in [top.token_id for top in mine.top]
            assert mine.top[0].logprob - mine.top[1].logprob < 0.5
            break


def scored(events: list[Event]) -> list[TokenLogprob]:
    return [token for event in events if isinstance(event, TextDelta) for token in event.logprobs]


def test_choices_of_one_seed_differ_and_share_the_prompt(smol: WorkerProcess) -> None:
    events = smol.run(raw("choices", LONG, n=3, max_output=8, sampling=Sampling(temperature=1.0, seed=3)))
    assert len({text_of(events, choice) for choice in range(3)}) == 3
    beat = _next_beat(smol)
    assert beat.models[0].kv_used == 0


def test_a_prompt_computed_together_is_computed_once(smol_spec: LoadSpec) -> None:
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(smol_spec)
        names = [worker.submit(raw(f"s{i}", f"{LONG} Question {i}:", max_output=4)) for i in range(6)]
        worker.finish(*names)
        first, *others = [usage(worker.events[name]) for name in names]
        assert first[1] == 0
        assert all(cached > 0.95 * prompt for prompt, cached in others)


def test_later_turns_find_at_least_95_percent_cached(smol: WorkerProcess) -> None:
    messages = [Message("user", [Text(CONVERSATION)])]
    for turn in range(3):
        request = InferenceRequest(f"turn {turn}", "m", messages=messages, max_output=12, sampling=GREEDY)
        events = smol.run(request)
        prompt, cached = usage(events)
        if turn:
            assert cached >= 0.95 * prompt
        messages = [
            *messages,
            Message("assistant", [Text(text_of(events))]),
            Message("user", [Text("Go on, please.")]),
        ]


@pytest.mark.parametrize(
    ("path", "text", "tokens"), [(smollm2, LONG, 150), (gemma, BEYOND_THE_WINDOW, 512)], ids=["smollm2", "gemma"]
)
def test_a_reused_prefix_gives_the_text_of_a_cold_one(path: Callable[[], Path], text: str, tokens: int) -> None:
    """Also for Gemma, whose sliding window loses older tokens unless its cache has full size."""
    spec = LoadSpec("m", str(path()), context=1024, parallel=4, prompt_lookup=False)
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(spec)
        worker.run(raw("warm", text + " First:", max_output=12))
        warm = worker.run(raw("reused", text + " Second: The quick brown", max_output=16))
        cold = worker.run(raw("cold", text + " Second: The quick brown", max_output=16, cache_prompt=False))
        assert usage(warm)[1] > tokens
        assert usage(cold)[1] == 0
        assert text_of(warm) == text_of(cold)


def test_no_canary_of_one_conversation_shows_up_in_another(smol_spec: LoadSpec) -> None:
    """Mixed requests with shared prefixes in a pool so short that preemption is forced."""
    rng = random.Random(11)
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(msgspec.structs.replace(smol_spec, context=400, parallel=6, kv_cells=512, prompt_lookup=True))
        canaries = {f"c{i}": f"{rng.randrange(10**6, 10**7)}" for i in range(12)}
        shared = "You keep one secret number and repeat it whenever you are asked. " * 3
        for name, secret in canaries.items():
            worker.submit(chat(name, f"{shared}The secret number is {secret}. Say the number.", max_output=24))
        worker.finish(*canaries, deadline_s=150)
        for name, secret in canaries.items():
            assert not isinstance(worker.events[name][-1], Failed)
            text = text_of(worker.events[name])
            assert not [other for other in canaries.values() if other != secret and other in text], text
        assert sum(secret in text_of(worker.events[name]) for name, secret in canaries.items()) > 3


def test_guessing_from_the_text_changes_nothing_but_the_speed(smol_spec: LoadSpec) -> None:
    """Greedy answers to texts that repeat themselves, with guesses and without: the same tokens, but for ties.
    Each worker starts with an empty pool, since what lies in it shifts the rounding even where nothing is guessed."""
    plain = _greedy_answers(msgspec.structs.replace(smol_spec, prompt_lookup=False), logprobs=2)
    guessed = _greedy_answers(msgspec.structs.replace(smol_spec, prompt_lookup=True))
    for one, other in zip(plain, guessed, strict=True):
        assert_same_but_for_ties(scored(one), _ids(other))
    assert sum(only(events, Finished).timings.draft_tokens for events in plain) == 0
    assert sum(only(events, Finished).timings.draft_accepted for events in guessed) > 0


def _greedy_answers(spec: LoadSpec, **fields: Any) -> list[list[Event]]:
    prompts = [
        SENTENCE * 4,
        "red, green, blue, red, green, blue, red, green,",
        f"Original text:\n{SENTENCE * 2}\nSame text once more:\n",
    ]
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(spec)
        requests = [
            raw(str(i), prompt, max_output=48, report_tokens=True, **fields) for i, prompt in enumerate(prompts)
        ]
        return [worker.run(request) for request in requests]


def _ids(events: list[Event]) -> list[int]:
    return [token for event in events if isinstance(event, Tokens) for token in event.ids]


def test_a_token_scores_the_same_when_sampled_and_when_echoed(smol: WorkerProcess) -> None:
    """Equal but for rounding, which differs by batch shape and place in the pool: up to 0.15 between two plain runs."""
    events = smol.run(raw("sampled", LONG[:600], logprobs=3, max_output=12, report_tokens=True))
    ids = _ids(events)
    sampled = [entry for event in events if isinstance(event, TextDelta) for entry in event.logprobs]
    prompt = [entry.token_id for entry in _echoed(smol, "prompt", LONG[:600])]
    echoed = _echoed(smol, "echoed", [*prompt, *ids])
    assert len(echoed) == len(prompt) + len(ids) > 128
    for one, other in zip(sampled, echoed[len(prompt) :], strict=False):
        assert one.token_id == other.token_id
        assert one.logprob == pytest.approx(other.logprob, abs=0.3)


def _echoed(worker: WorkerProcess, name: str, prompt: str | list[int]) -> list[TokenLogprob]:
    events = worker.run(raw(name, prompt, echo=True, logprobs=3, max_output=1))
    return next(event for event in events if isinstance(event, TextDelta)).logprobs


def test_a_cancel_inside_a_long_prefill_stops_it(smol: WorkerProcess) -> None:
    endless = Sampling(temperature=0.0, ignore_eos=True)
    smol.submit(raw("long prefill", SENTENCE * 40 + "x", max_output=1000, sampling=endless, cache_prompt=False))
    smol.until(lambda: "long prefill" in smol.events)
    smol.send(Cancel("long prefill"))
    text_of(smol.run(raw("after", "Hi", max_output=1)))
    assert not smol.ended("long prefill")


def test_vectors_are_normal_and_the_same_alone_and_packed() -> None:
    spec = LoadSpec("v", str(smollm2()), context=512, parallel=4, embedding=True, pooling="mean")
    with WorkerProcess("--cpu-threads", "1") as worker:
        loaded = worker.load(spec)
        assert loaded.embedding
        packed = worker.run(EmbeddingRequest("p", "v", ["a cat", "a dog", "quantum physics"]))
        alone = worker.run(EmbeddingRequest("a", "v", ["a dog"]))
        vectors = [_floats(event) for event in packed if isinstance(event, Embedded)]
        assert only(packed, Started).prompt_tokens > 0
        assert all(abs(_dot(v, v) - 1) < 1e-4 for v in vectors)
        assert _dot(vectors[1], _floats(only(alone, Embedded))) > 0.999
        assert _dot(vectors[0], vectors[1]) > _dot(vectors[0], vectors[2])
        refused = only(worker.run(EmbeddingRequest("long", "v", ["word " * 600])), Failed)
        assert refused.code == "context_length_exceeded"
        assert isinstance(worker.run(EmbeddingRequest("full", "v", ["word " * 500]))[-1], Finished)
        assert only(worker.run(raw("text", "x", model="v")), Failed).code == "unsupported_value"


def _next_beat(worker: WorkerProcess) -> Heartbeat:
    worker.notices.clear()
    return worker.wait(Heartbeat)


def _floats(event: Embedded) -> list[float]:
    return list(struct.unpack(f"<{len(event.vector) // 4}f", event.vector))


def _dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_repacked_weights_say_the_same_with_one_thread_and_with_two() -> None:
    """A second copy of ggml's library once computed every other row wrongly: Q4_K models made nonsense on CPUs."""
    answers = []
    for threads in ("1", "2"):
        with WorkerProcess("--cpu-threads", threads) as worker:
            worker.load(LoadSpec("m", str(gemma()), 512, parallel=1))
            answers.append(scored(worker.run(raw("r", "The capital of France is", max_output=8, logprobs=2))))
            mapped = Path(f"/proc/{worker.process.pid}/maps").read_text().split()
        libraries = {Path(word) for word in mapped if "llama_cpp/lib/" in word}
        assert len({path.name.split(".")[0] for path in libraries}) == len(libraries), libraries
    assert answers[0]
    assert_same_but_for_ties(answers[0], [token.token_id for token in answers[1]])
