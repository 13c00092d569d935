"""Legacy completions: prompts of every kind, several at once, and their answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cortex.dialects.base import Call
from cortex.dialects.openai.completions.request import parse_completions
from cortex.errors import BadRequest
from cortex.wire.events import (
    ChoiceFinished,
    Event,
    Finished,
    Progress,
    Started,
    TextDelta,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from cortex.wire.inference import InferenceRequest
from tests.dialects.harness import CONTEXT

END = Finished(Usage(3, 1, 2))


def call(**fields: Any) -> Call:
    return parse_completions(msgspec.json.encode({"model": "demo", "prompt": "hi"} | fields), CONTEXT)


def requests(**fields: Any) -> list[InferenceRequest]:
    found = call(**fields).requests
    return [request for request in found if isinstance(request, InferenceRequest)]


def answer(*parts: list[Event], **fields: Any) -> dict[str, Any]:
    collector = call(**fields).collector()
    for part, events in enumerate(parts):
        collector.feed(part, events)
    return dict(msgspec.json.decode(collector.finish()))


def said(text: str, choice: int = 0, logprob: float | None = None) -> list[Event]:
    logprobs = [] if logprob is None else [TokenLogprob(1, text.encode(), logprob)]
    return [TextDelta(text, choice, logprobs), ChoiceFinished("stop", choice=choice)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", ["a"]),
        ("", [""]),
        ([1, 2], [[1, 2]]),
        (["a", "b"], ["a", "b"]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        (["a", [1]], ["a", [1]]),
    ],
)
def test_every_kind_of_prompt(prompt: Any, expected: list[Any]) -> None:
    assert [request.prompt for request in requests(prompt=prompt)] == expected


@pytest.mark.parametrize("prompt", [[], [1, "a"], [[1], 2], [-1], {"a": 1}, None])
def test_other_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        call(prompt=prompt)
    assert str(caught.value.param).startswith("prompt")


def test_a_batch_has_an_id_for_each_prompt() -> None:
    assert len({request.id for request in requests(prompt=["a", "b"])}) == 2


def test_fields_are_passed_on() -> None:
    (request,) = requests(suffix="end", echo=True, logprobs=3, max_tokens=4, stop="x", temperature=0, n=2)
    assert (request.suffix, request.echo, request.logprobs, request.max_output) == ("end", True, 3, 4)
    assert (request.stop, request.sampling.temperature, request.n) == (["x"], 0.0, 2)
    assert request.messages == []


@pytest.mark.parametrize(("given", "expected"), [(None, None), (False, None), (True, 0), (0, 0), (5, 5)])
def test_logprobs_is_a_number_or_a_flag(given: Any, expected: int | None) -> None:
    assert requests(logprobs=given)[0].logprobs == expected


def test_the_answer_numbers_choices_over_all_prompts() -> None:
    first = [Started(3), *said("a"), *said("b", 1), END]
    second = [Started(3), *said("c"), *said("d", 1), END]
    whole = answer(first, second, prompt=["p", "q"], n=2)
    assert [(choice["index"], choice["text"]) for choice in whole["choices"]] == [
        (0, "a"),
        (1, "b"),
        (2, "c"),
        (3, "d"),
    ]
    assert whole["usage"]["prompt_tokens"] == 6
    assert whole["usage"]["completion_tokens"] == 4
    assert whole["object"] == "text_completion"


def test_the_answer_has_an_id() -> None:
    """zed#54804."""
    assert answer([Started(3), *said("a"), END])["id"].startswith("cmpl-")


def test_best_of_keeps_the_most_probable() -> None:
    events = [Started(3), *said("a", 0, -3.0), *said("b", 1, -1.0), *said("c", 2, -2.0), END]
    whole = answer(events, n=2, best_of=3)
    assert [choice["text"] for choice in whole["choices"]] == ["b", "c"]
    assert [choice["logprobs"] for choice in whole["choices"]] == [None, None]
    assert requests(n=2, best_of=3)[0].n == 3


@pytest.mark.parametrize("fields", [{"n": 3, "best_of": 2}, {"best_of": 2, "stream": True}])
def test_an_impossible_best_of_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        call(**fields)
    assert caught.value.param == "best_of"


def test_logprobs_are_parallel_lists_with_offsets() -> None:
    tokens = [TokenLogprob(1, b"ab", -0.1), TokenLogprob(2, b"c", -0.2, offset=2)]
    last = [TokenLogprob(2, b"c", -0.2, offset=3)]
    events = [Started(3), TextDelta("abc", logprobs=tokens), TextDelta("d", logprobs=last), *said("")[1:], END]
    logprobs = answer(events, logprobs=0)["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["ab", "c", "c"]
    assert logprobs["token_logprobs"] == [-0.1, -0.2, -0.2]
    assert logprobs["text_offset"] == [0, 2, 3]
    renderer = call(logprobs=0, stream=True).renderer()
    streamed = renderer.feed(0, events).decode()
    assert '"text_offset":[0,2]' in streamed
    assert '"text_offset":[3]' in streamed


def test_an_echoed_prompts_first_token_has_nulls() -> None:
    echo = TextDelta("abc", logprobs=[TokenLogprob(1, b"ab", None), TokenLogprob(2, b"c", -0.2, offset=2)])
    generated = [TextDelta("d", logprobs=[TokenLogprob(1, b"d", -0.5, offset=3)]), ChoiceFinished("stop")]
    logprobs = answer([Started(2), echo, *generated, END], echo=True, logprobs=1)["choices"][0]["logprobs"]
    assert logprobs["token_logprobs"] == [None, -0.2, -0.5]
    assert logprobs["top_logprobs"] == [None, {}, {}]
    assert logprobs["text_offset"] == [0, 2, 3]


def test_no_alternative_overwrites_another() -> None:
    """Tokens that end inside a character have no text of their own. Of two with one text the likelier is shown."""
    tops = [
        TopLogprob(1, b"\xf0\x9f", -0.1),
        TopLogprob(2, b"\xe2\x80", -2.0),
        TopLogprob(3, b"a", -3.0),
        TopLogprob(4, b"a", -4.0),
    ]
    tokens = [TokenLogprob(1, b"\xf0\x9f", -0.1, tops)]
    events = [Started(3), TextDelta("", logprobs=tokens), ChoiceFinished("length"), END]
    logprobs = answer(events, logprobs=4)["choices"][0]["logprobs"]
    assert logprobs["tokens"] == [r"bytes:\xf0\x9f"]
    assert logprobs["top_logprobs"] == [{r"bytes:\xf0\x9f": -0.1, r"bytes:\xe2\x80": -2.0, "a": -3.0}]


def test_the_echoed_prompt_has_no_say_in_which_answer_is_best() -> None:
    """Averaged over the prompt's sure tokens, a short bad answer would look better than a long good one."""
    prompt = [TokenLogprob(1, b"p", -0.01)] * 20
    long = [*(delta for delta in said("a", 0, -0.5)[:1] * 40), *said("a", 0, -0.5)]
    echoes = [TextDelta("p" * 20, choice, prompt) for choice in range(2)]
    whole = answer([Started(20), *echoes, *long, *said("b", 1, -2.0), END], n=1, best_of=2, echo=True)
    assert whole["choices"][0]["text"] == "p" * 20 + "a" * 41


def test_a_stream_of_several_prompts_ends_once() -> None:
    renderer = call(prompt=["p", "q"], stream=True, stream_options={"include_usage": True}).renderer()
    first = renderer.feed(1, [Started(3), *said("b"), END])
    assert b"[DONE]" not in first
    assert b'"index":1' in first
    second = renderer.feed(0, [Started(3), *said("a"), END]).decode()
    assert second.count("[DONE]") == 1
    assert '"prompt_tokens":6' in second


def test_progress_and_timings_come_to_those_who_ask() -> None:
    events = [Started(3, 1), Progress("prefill", 2, 3), *said("a"), END]
    plain = call(stream=True).renderer().feed(0, events)
    assert b"prompt_progress" not in plain
    assert b"timings" not in plain
    asked = call(stream=True, return_progress=True, timings_per_token=True).renderer().feed(0, events)
    assert b'"prompt_progress":{"total":3,"cache":1,"processed":2}' in asked
    assert b'"timings":{"cache_n":1' in asked
