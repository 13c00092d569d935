"""lm-evaluation-harness's scorer on our answers gives the sums of direct evaluation by llama.cpp.

One thread and prompts below 64 tokens, which are computed in one batch in both ways: the same numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from cortex.dialects.openai.completions.request import parse_completions
from cortex.engine.kv.slot import Discard, Slot
from cortex.engine.kv.tokens import TokenBuffer
from cortex.engine.llama import library
from cortex.engine.llama.context import Context
from cortex.engine.llama.context_shape import context_shape
from cortex.engine.llama.model import Model
from cortex.engine.scheduling.sequence import Entry, Sequence
from cortex.wire.events import Event, TextDelta
from cortex.wire.worker import LoadSpec
from tests.dialects.harness import CONTEXT
from tests.engine.harness import WorkerProcess
from tests.models import smollm2

pytestmark = pytest.mark.model

SPEC = LoadSpec("m", str(smollm2()), context=512, parallel=2, threads=1, threads_batch=1, prompt_lookup=False)
PAIRS = [
    ("The capital of France is", " Paris."),
    ("Once upon a time, there was a", " small robot 🤖 who liked naïve cafés."),
    ("<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n", "Hi!<|im_end|>"),
    ("Q: Is water wet?\nA:", " no"),
]
"""Contexts and continuations."""


class Direct:
    """llama.cpp without the engine."""

    def __init__(self) -> None:
        tap = library.LogTap()
        tap.install()
        library.start_backend()
        self.model = Model.load(SPEC, tap, lambda _: None)
        self.context = Context(self.model, SPEC, context_shape(SPEC, self.model, 1), tap)

    def logprobs(self, tokens: list[int]) -> list[float]:
        """Of each token but the first, given those before it."""
        slot = Slot(0, TokenBuffer(tokens), None)
        sequence = Sequence("direct", 0, TokenBuffer(tokens), len(tokens), 0, slot=slot, scoring=True)
        row = self.context.decode([Entry(sequence, 0, len(tokens), 1, scored=True)])[0]
        rows = [self.context.logits(row + at).astype(np.float64) for at in range(len(tokens) - 1)]
        self.context.apply(Discard(0))
        return [float(one[t] - np.logaddexp.reduce(one)) for one, t in zip(rows, tokens[1:], strict=True)]

    def close(self) -> None:
        self.context.close()
        self.model.close()


@pytest.fixture(scope="module")
def direct() -> Iterator[Direct]:
    model = Direct()
    yield model
    model.close()


@pytest.fixture(scope="module")
def scoring() -> Iterator[WorkerProcess]:
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(SPEC)
        yield worker


def completion(worker: WorkerProcess, name: str, **fields: Any) -> dict[str, Any]:
    """The answer to `POST /v1/completions`."""
    call = parse_completions(msgspec.json.encode({"model": "m", **fields}), CONTEXT)
    collector = call.collector()
    for part, request in enumerate(call.requests):
        collector.feed(part, worker.run(msgspec.structs.replace(request, id=f"{name} {part}", model="m")))
    return dict(msgspec.json.decode(collector.finish()))


def continuation_scores(answer: dict[str, Any], ctxlens: list[int]) -> list[tuple[float, bool]]:
    """As lm-evaluation-harness computes them (lm_eval/models/openai_completions.py, parse_logprobs): without the last
    entry, which is the generated token's."""
    found = []
    for choice, ctxlen in zip(answer["choices"], ctxlens, strict=True):
        scores = choice["logprobs"]["token_logprobs"][ctxlen:-1]
        tops = choice["logprobs"]["top_logprobs"][ctxlen:-1]
        found.append((sum(scores), all(score == max(top.values()) for score, top in zip(scores, tops, strict=True))))
    return found


@pytest.mark.parametrize("ends", [False, True], ids=["a word follows", "an end token follows"])
def test_the_sum_over_a_continuation_is_that_of_direct_evaluation(
    scoring: WorkerProcess, direct: Direct, ends: bool
) -> None:
    contexts = [direct.model.vocab.tokenize(context) for context, _ in PAIRS]
    wholes = [direct.model.vocab.tokenize(context + more) for context, more in PAIRS]
    assert max(map(len, wholes)) < 64
    asked = {"prompt": wholes, "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0, "seed": 1234}
    if ends:  # a bias is no part of the scores
        asked["logit_bias"] = {str(direct.model.vocab.eos): 100}
    answer = completion(scoring, f"lm-eval {ends}", **asked)
    scores = continuation_scores(answer, [len(tokens) for tokens in contexts])
    for choice, (score, _), context, whole in zip(answer["choices"], scores, contexts, wholes, strict=True):
        lists = choice["logprobs"]
        assert len(lists["token_logprobs"]) == len(lists["text_offset"]) == len(whole) + 1
        assert choice["finish_reason"] == ("stop" if ends else "length")
        assert score == pytest.approx(sum(direct.logprobs(whole)[len(context) - 1 :]), abs=1e-5)  # float32 sums


def test_a_greedy_continuation_is_found_to_be_greedy(scoring: WorkerProcess, direct: Direct) -> None:
    context = direct.model.vocab.tokenize(PAIRS[0][0])
    generated = completion(scoring, "generate", prompt=context, max_tokens=6, temperature=0)["choices"][0]["text"]
    whole = [*context, *direct.model.vocab.tokenize(generated)]
    asked = {"max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    assert continuation_scores(completion(scoring, "again", prompt=whole, **asked), [len(context)])[0][1]
    other = [*context, *direct.model.vocab.tokenize(" purple")]
    assert not continuation_scores(completion(scoring, "other", prompt=other, **asked), [len(context)])[0][1]


def test_text_offsets_lead_into_the_text(scoring: WorkerProcess) -> None:
    prompt = PAIRS[1][0] + PAIRS[1][1]
    asked = {"max_tokens": 8, "logprobs": 0, "echo": True, "temperature": 0}
    choice = completion(scoring, "offsets", prompt=prompt, **asked)["choices"][0]
    lists = choice["logprobs"]
    assert lists["text_offset"] == sorted(lists["text_offset"])
    for token, offset in zip(lists["tokens"], lists["text_offset"], strict=True):
        if not token.startswith("bytes:"):
            assert choice["text"].startswith(token, offset)
    assert any(token.startswith("bytes:") for token in lists["tokens"])


def test_streamed_lists_are_the_whole_answers(scoring: WorkerProcess) -> None:
    """Each with the text that it belongs to, also where a stop string is watched for."""
    asked = {"prompt": PAIRS[1][0] + PAIRS[1][1], "max_tokens": 24, "logprobs": 1, "echo": True, "temperature": 0}
    call = parse_completions(msgspec.json.encode({"model": "m", "stop": ["the", "ing "], **asked}), CONTEXT)
    request = call.requests[0]
    events: list[Event] = scoring.run(msgspec.structs.replace(request, id="streamed", model="m"))
    text, before = "", 0
    for event in events:
        if isinstance(event, TextDelta):
            text += event.text
            for token in event.logprobs:
                assert before <= token.offset <= len(text)
                before = token.offset
    assert "the" not in text[len(str(asked["prompt"])) :]
