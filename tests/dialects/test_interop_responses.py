"""Bugs that other servers had with Responses clients; each test is named after what this one promises instead."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.dialects.adapters_responses import OPENAI_RESPONSES
from tests.dialects.harness import collect, stream, stream_pieces
from tests.dialects.readers import codex
from tests.dialects.readers.frames import Complaint, frames
from tests.dialects.scripts import SCRIPTS, Script, by_name

ALL = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def events(name: str) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in frames(stream(OPENAI_RESPONSES, by_name(name)))]


@ALL
def test_a_stream_ends_in_one_final_response(script: Script) -> None:
    """Codex calls any other end "stream closed before response.completed", and asks again."""
    kinds = [event["type"] for event in events(script.name)]
    final = {"response.completed", "response.incomplete", "response.failed"}
    assert [kind for kind in kinds if kind in final] == kinds[-1:]


def test_the_reader_notices_a_missing_end() -> None:
    body = stream(OPENAI_RESPONSES, by_name("plain"))
    with pytest.raises(Complaint, match=r"before response\.completed"):
        codex.read_responses(body[: body.index(b"event: response.completed")])


@ALL
def test_no_count_is_ever_null_and_no_usage_is_empty(script: Script) -> None:
    body = stream(OPENAI_RESPONSES, script) + collect(OPENAI_RESPONSES, script)
    assert not re.search(rb'"(?!max_)\w+_tokens":null|"usage":(null|\{\})', body)


@ALL
def test_every_event_has_its_type_and_number(script: Script) -> None:
    numbered = events(script.name)
    assert [event["sequence_number"] for event in numbered] == list(range(len(numbered)))
    assert all(event["type"] for event in numbered)


@ALL
def test_ids_are_the_same_streamed_and_not(script: Script) -> None:
    if script.failure is not None:
        return
    assert events(script.name)[-1]["response"] == json.loads(collect(OPENAI_RESPONSES, script))


def test_a_free_form_call_is_a_custom_tool_call_with_its_raw_text() -> None:
    """Codex refuses its apply_patch as a function_call, and JSON in place of the patch."""
    [item] = json.loads(collect(OPENAI_RESPONSES, by_name("custom_tool")))["output"]
    assert (item["type"], item["name"]) == ("custom_tool_call", "apply_patch")
    assert item["input"].startswith("*** Begin Patch\n")


def test_a_namespaced_call_leaves_split_in_two_again() -> None:
    [item] = json.loads(collect(OPENAI_RESPONSES, by_name("namespaced_tool")))["output"]
    assert (item["namespace"], item["name"]) == ("files", "read")


def test_reasoning_is_told_as_a_summary_and_never_as_content() -> None:
    """OpenAI refuses reasoning items that come back with content (claude-code-router#1783)."""
    reasoning, _ = json.loads(collect(OPENAI_RESPONSES, by_name("reasoning_text")))["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Let me think."}]
    assert "content" not in reasoning


def test_a_cut_answer_is_incomplete_and_says_why() -> None:
    last = events("length")[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["output"][-1]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("error_mid_stream", "server_error", "the worker of model demo died (signal 11)"),
        ("error_in_reasoning", "server_is_overloaded", "too many requests (try again in 2s)"),
    ],
)
def test_an_error_in_mid_stream_is_a_typed_failed_response(name: str, code: str, message: str) -> None:
    """An untyped error event hides the reason from Zed; Codex decides by the code whether to try again."""
    last = events(name)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {"code": code, "message": message}


def test_silence_is_filled_with_a_real_event_that_changes_nothing() -> None:
    """A comment would not reset Codex's idle timer."""
    script = by_name("long_prefill")
    pieces = stream_pieces(OPENAI_RESPONSES.call(script, stream=True), script)
    silent = [piece for piece, step in zip(pieces, script.steps, strict=True) if step == "silence"]
    assert all(b"event: response.in_progress" in piece for piece in silent)
    assert silent[0].startswith(b"event: response.created")
