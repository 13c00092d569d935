"""What chat completions say about the less common wishes; the canonical scripts are in the golden files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from cortex.dialects.base import Call
from cortex.dialects.openai.chat.request import parse_chat
from cortex.wire.events import (
    ChoiceFinished,
    Event,
    Finished,
    Progress,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
    TopLogprob,
    Usage,
)
from tests.dialects.harness import CONTEXT

END = Finished(Usage(10, 4, 5, 2), Timings(prefill_s=0.5, decode_s=2.0))
LOGPROB = TokenLogprob(5, "é".encode()[:1], -0.5, [TopLogprob(5, "é".encode()[:1], -0.5), TopLogprob(6, b"e", -1.5)])


def call(**fields: Any) -> Call:
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": True} | fields
    return parse_chat(msgspec.json.encode(body), CONTEXT)


def chunks(events: Sequence[Event], **fields: Any) -> list[dict[str, Any]]:
    """The stream's JSON frames; the end mark is checked here."""
    body = call(**fields).renderer().feed(0, events)
    *frames, done = body.decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    return [msgspec.json.decode(frame.removeprefix("data: ")) for frame in frames]


def answer(events: Sequence[Event], **fields: Any) -> dict[str, Any]:
    collector = call(**fields).collector()
    collector.feed(0, events)
    return dict(msgspec.json.decode(collector.finish()))


def deltas(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame["choices"][0]["delta"] for frame in frames if frame["choices"]]


SIMPLE = [Started(10, 4), TextDelta("hi"), ChoiceFinished("stop"), END]


def test_every_chunk_carries_the_same_identity() -> None:
    """opencode#39061: a chunk without id or object breaks the whole stream."""
    frames = chunks(SIMPLE, stream_options={"include_usage": True})
    assert len({(frame["id"], frame["created"], frame["model"], frame["object"]) for frame in frames}) == 1
    assert frames[0]["object"] == "chat.completion.chunk"


def test_without_include_usage_no_chunk_speaks_of_usage() -> None:
    assert all("usage" not in frame for frame in chunks(SIMPLE))


def test_usage_is_whole_and_alone_in_its_chunk() -> None:
    """zed#42893: every number is there; Continue reorders chunks with usage, so there is no content beside it."""
    *others, last = chunks(SIMPLE, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert all("usage" not in frame for frame in others)


def test_stream_and_answer_share_their_id() -> None:
    assert chunks(SIMPLE)[0]["id"] == answer(SIMPLE)["id"]


def test_plain_answers_carry_no_tool_calls_and_no_reasoning() -> None:
    """litellm#29286: an empty list of calls is taken for calls."""
    message = answer(SIMPLE)["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "hi", "refusal": None}


def test_reasoning_only_has_content_that_is_a_string() -> None:
    """rig#1656."""
    message = answer([Started(1), ReasoningDelta("hm"), ChoiceFinished("length"), END])["choices"][0]["message"]
    assert message["content"] == ""
    assert message["reasoning_content"] == "hm"


def test_several_choices_are_told_apart() -> None:
    events = [
        Started(1),
        TextDelta("a", choice=0),
        TextDelta("b", choice=1),
        ChoiceFinished("stop", choice=1),
        ChoiceFinished("length", choice=0),
        END,
    ]
    whole = answer(events, n=2)
    assert [(choice["index"], choice["message"]["content"]) for choice in whole["choices"]] == [(0, "a"), (1, "b")]
    assert [choice["finish_reason"] for choice in whole["choices"]] == ["length", "stop"]
    seen = [(frame["choices"][0]["index"], frame["choices"][0]["delta"]) for frame in chunks(events, n=2)]
    assert seen[:4] == [
        (0, {"role": "assistant", "content": ""}),
        (1, {"role": "assistant", "content": ""}),
        (0, {"content": "a"}),
        (1, {"content": "b"}),
    ]


def test_logprobs_keep_the_exact_bytes_of_part_characters() -> None:
    events = [Started(1), TextDelta("é", logprobs=[LOGPROB]), ChoiceFinished("stop"), END]
    expected = {
        "content": [
            {
                "token": "�",
                "logprob": -0.5,
                "bytes": [0xC3],
                "top_logprobs": [
                    {"token": "�", "logprob": -0.5, "bytes": [0xC3]},
                    {"token": "e", "logprob": -1.5, "bytes": [101]},
                ],
            }
        ],
        "refusal": None,
    }
    assert answer(events, logprobs=True)["choices"][0]["logprobs"] == expected
    assert chunks(events, logprobs=True)[1]["choices"][0]["logprobs"] == expected


@pytest.mark.parametrize(
    ("reason", "called", "word"),
    [
        ("stop", False, "stop"),
        ("stop_sequence", False, "stop"),
        ("length", False, "length"),
        ("content_filter", False, "content_filter"),
        ("tool_calls", True, "tool_calls"),
        ("stop", True, "tool_calls"),
        ("length", True, "length"),
    ],
)
def test_finish_reasons(reason: Any, called: bool, word: str) -> None:
    """Zed drops calls that end with "stop"; a cut call stays "length"."""
    tool = [ToolCallStart(0, "call_1", "f"), ToolCallEnd(0)] if called else []
    events = [Started(1), *tool, ChoiceFinished(reason), END]
    assert answer(events)["choices"][0]["finish_reason"] == word
    assert chunks(events)[-1]["choices"][0]["finish_reason"] == word


CALL = [
    Started(1),
    ToolCallStart(0, "call_1", "f"),
    ToolCallArguments(0, '{"a":'),
    ToolCallArguments(0, "1}"),
    ToolCallEnd(0),
    ChoiceFinished("tool_calls"),
    END,
]


def test_ids_names_and_roles_appear_once() -> None:
    """The OpenAI SDK concatenates every string that comes twice."""
    text = msgspec.json.encode(chunks(CALL)).decode()
    assert text.count('"call_1"') == text.count('"name":"f"') == text.count('"role"') == 1


def test_legacy_clients_get_a_function_call() -> None:
    fields = {"functions": [{"name": "f"}]}
    choice = answer(CALL, **fields)["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"
    told = [delta["function_call"] for delta in deltas(chunks(CALL, **fields)) if "function_call" in delta]
    assert told == [{"name": "f", "arguments": ""}, {"arguments": '{"a":'}, {"arguments": "1}"}]


def test_timings_come_only_to_those_who_ask() -> None:
    assert "timings" not in answer(SIMPLE)
    expected = {
        "cache_n": 4,
        "prompt_n": 6,
        "prompt_ms": 500.0,
        "prompt_per_token_ms": 83.333,
        "prompt_per_second": 12.0,
        "predicted_n": 5,
        "predicted_ms": 2000.0,
        "predicted_per_token_ms": 400.0,
        "predicted_per_second": 2.5,
    }
    assert answer(SIMPLE, timings_per_token=True)["timings"] == expected
    assert chunks(SIMPLE, timings_per_token=True)[-1]["timings"] == expected


def test_timings_of_nothing_are_zeros() -> None:
    timings = answer([Started(1), ChoiceFinished("stop"), Finished()], timings_per_token=True)["timings"]
    assert set(timings.values()) == {0}


def test_progress_comes_only_to_those_who_ask() -> None:
    events = [Started(10, 4), Progress("prefill", 6, 10), *SIMPLE[1:]]
    assert all("prompt_progress" not in frame for frame in chunks(events))
    asked = [frame for frame in chunks(events, return_progress=True) if "prompt_progress" in frame]
    assert [frame["prompt_progress"] for frame in asked] == [{"total": 10, "cache": 4, "processed": 6}]
    assert asked[0]["choices"][0]["delta"] == {}


def test_the_model_is_echoed_as_the_client_wrote_it() -> None:
    assert answer(SIMPLE, model="alias")["model"] == "alias"
