"""Bugs that other servers had with chat and completions clients; each test is named after what this one promises."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.dialects.adapters_openai import OPENAI_CHAT, OPENAI_COMPLETIONS
from tests.dialects.harness import Dialect, collect, stream
from tests.dialects.readers.frames import frames
from tests.dialects.scripts import SCRIPTS, Script, by_name

ALL = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
REQUIRED = {"id", "object", "created", "model", "choices"}


def chunks(dialect: Dialect, name: str) -> list[dict[str, Any]]:
    found = frames(stream(dialect, by_name(name)))
    return [json.loads(frame.data) for frame in found if frame.data != "[DONE]"]


def call_deltas(name: str) -> list[dict[str, Any]]:
    choices = [choice for chunk in chunks(OPENAI_CHAT, name) for choice in chunk["choices"]]
    return [call for choice in choices for call in choice["delta"].get("tool_calls", [])]


@ALL
def test_no_count_is_ever_null_and_no_usage_is_empty(script: Script) -> None:
    body = stream(OPENAI_CHAT, script) + collect(OPENAI_CHAT, script)
    assert not re.search(rb'"(?!max_)\w+_tokens":null|"usage":(null|\{\})', body)


@ALL
def test_every_chunk_has_its_identity_the_usage_chunk_too(script: Script) -> None:
    for chunk in chunks(OPENAI_CHAT, script.name):
        assert "error" in chunk or set(chunk) >= REQUIRED


def test_parallel_calls_have_indexes_of_their_own() -> None:
    named = [(call["index"], call["function"]["name"]) for call in call_deltas("three_tools") if "id" in call]
    assert named == [(0, "get_weather"), (1, "get_time"), (2, "get_weather")]


def test_name_and_id_of_a_call_are_told_once() -> None:
    """Clients concatenate what is repeated: "get_weatherget_weather"."""
    later = [call for call in call_deltas("two_tools") if call["function"].get("arguments")]
    assert later
    assert not any("id" in call or "name" in call["function"] for call in later)


@pytest.mark.parametrize(
    ("name", "word"),
    [("one_tool", "tool_calls"), ("text_tool", "tool_calls"), ("plain", "stop"), ("length_mid_json", "length")],
)
def test_the_finish_reason_says_when_calls_are_to_be_run(name: str, word: str) -> None:
    reasons = [choice["finish_reason"] for chunk in chunks(OPENAI_CHAT, name) for choice in chunk["choices"]]
    assert [reason for reason in reasons if reason] == [word]


def test_a_completion_has_an_id_streamed_and_not() -> None:
    """Zed's edit predictions fail without (zed#54804)."""
    [identity] = {chunk["id"] for chunk in chunks(OPENAI_COMPLETIONS, "plain")}
    assert json.loads(collect(OPENAI_COMPLETIONS, by_name("plain")))["id"] == identity


def test_an_answer_of_thought_alone_still_has_a_message() -> None:
    """A null content without calls is an error to some clients (rig#1656)."""
    message = json.loads(collect(OPENAI_CHAT, by_name("reasoning_only")))["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("", "Let me think.")


@pytest.mark.parametrize("dialect", [OPENAI_CHAT, OPENAI_COMPLETIONS], ids=lambda dialect: dialect.name)
def test_silence_is_filled_with_comments_that_no_parser_sees(dialect: Dialect) -> None:
    body = stream(dialect, by_name("long_prefill"))
    assert body.count(b": ping\n\n") == by_name("long_prefill").steps.count("silence")
    assert "ping" not in "".join(frame.data for frame in frames(body))


@pytest.mark.parametrize("name", ["error_mid_stream", "error_first"])
def test_an_error_in_mid_stream_is_the_last_frame(name: str) -> None:
    """A finish chunk behind it would make the broken answer look whole."""
    last = frames(stream(OPENAI_CHAT, by_name(name)))[-1]
    assert set(json.loads(last.data)) == {"error"}
