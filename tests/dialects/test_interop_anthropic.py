"""Bugs that other servers had with Anthropic clients; each test is named after what this one promises instead."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from cortex.dialects.anthropic.messages import parse_messages
from cortex.dialects.anthropic.reply import anthropic_error
from cortex.dialects.opaque_reasoning import decode_opaque
from cortex.errors import ContextLengthExceeded
from cortex.wire.events import ChoiceFinished, Event, Finished, ReasoningDelta, Started, TextDelta, Usage
from tests.dialects.adapters_anthropic import ANTHROPIC_MESSAGES
from tests.dialects.harness import CONTEXT, collect, stream, stream_pieces
from tests.dialects.readers import claude_code
from tests.dialects.readers.frames import Complaint, frames
from tests.dialects.scripts import SCRIPTS, Script, by_name

ALL = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
GOOD = [script for script in SCRIPTS if script.failure is None]


def events(name: str) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in frames(stream(ANTHROPIC_MESSAGES, by_name(name)))]


def blocks(name: str) -> list[tuple[int, str]]:
    return [(e["index"], e["content_block"]["type"]) for e in events(name) if e["type"] == "content_block_start"]


def test_every_change_of_channel_opens_a_block_of_its_own_index() -> None:
    assert blocks("text_reasoning_text") == [(0, "text"), (1, "thinking"), (2, "text")]


@pytest.mark.parametrize(
    ("name", "kind"), [("reasoning_text", "thinking"), ("plain", "text"), ("one_tool", "tool_use")]
)
def test_the_first_block_is_of_the_kind_of_the_first_delta(name: str, kind: str) -> None:
    assert blocks(name)[0] == (0, kind)


@pytest.mark.parametrize("script", GOOD, ids=lambda script: script.name)
def test_there_is_exactly_one_message_start(script: Script) -> None:
    kinds = [event["type"] for event in events(script.name)]
    assert kinds.count("message_start") == 1
    assert kinds.count("message_stop") == 1


def test_the_delta_that_switches_blocks_is_not_lost() -> None:
    said: list[Event] = [Started(1), TextDelta("a"), ReasoningDelta("b"), TextDelta("c")]
    renderer = parse_messages(ANTHROPIC_MESSAGES.body(by_name("plain"), True), CONTEXT).renderer()
    body = renderer.feed(0, [*said, ChoiceFinished("stop"), Finished(Usage(1))])
    read = claude_code.read_anthropic(body)
    assert (read.text, read.reasoning) == ("ac", "b")


def test_text_is_closed_before_a_tool_is_opened() -> None:
    kinds = [event["type"] for event in events("text_tool")]
    assert kinds.index("content_block_stop") < [i for i, kind in enumerate(kinds) if kind == "content_block_start"][1]


def test_usage_is_told_at_the_start_and_at_the_end() -> None:
    start, *_, end, _ = events("plain")
    cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 30}
    assert start["message"]["usage"] == {"input_tokens": 12, **cached, "output_tokens": 0}
    assert end["usage"] == {"input_tokens": 12, **cached, "output_tokens": 9}


@ALL
def test_no_done_marker_ends_a_stream(script: Script) -> None:
    assert b"[DONE]" not in stream(ANTHROPIC_MESSAGES, script)


@ALL
def test_no_count_is_ever_null(script: Script) -> None:
    assert not re.search(rb'_tokens":null', stream(ANTHROPIC_MESSAGES, script) + collect(ANTHROPIC_MESSAGES, script))


@ALL
def test_a_block_is_never_empty(script: Script) -> None:
    claude_code.read_anthropic(stream(ANTHROPIC_MESSAGES, script))
    for block in json.loads(collect(ANTHROPIC_MESSAGES, script)).get("content", []):
        assert block.get("text") != ""
        assert block.get("thinking") != ""


def test_an_empty_answer_has_no_content_at_all() -> None:
    assert json.loads(collect(ANTHROPIC_MESSAGES, by_name("empty")))["content"] == []


def test_a_tool_starts_with_an_empty_input_and_gets_braces_even_without_arguments() -> None:
    [start] = [event for event in events("tool_no_fragments") if event["type"] == "content_block_start"]
    assert start["content_block"]["input"] == {}
    deltas = [event["delta"] for event in events("tool_no_fragments") if event["type"] == "content_block_delta"]
    assert deltas == [{"type": "input_json_delta", "partial_json": "{}"}]


def test_blocks_are_closed_in_sequence_not_all_at_the_end() -> None:
    """The reader complains about any other order; this shows that it would."""
    body = stream(ANTHROPIC_MESSAGES, by_name("two_tools"))
    claude_code.read_anthropic(body)
    stops = [frame for frame in body.split(b"\n\n") if b"content_block_stop" in frame]
    at_the_end = body.replace(stops[0] + b"\n\n", b"")
    with pytest.raises(Complaint, match="while another is open"):
        claude_code.read_anthropic(at_the_end)


def test_the_stop_sequence_is_reported() -> None:
    *_, end, _ = events("stop_sequence")
    assert end["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "three"}


def test_message_start_does_not_wait_for_a_token() -> None:
    call = ANTHROPIC_MESSAGES.call(by_name("long_prefill"), stream=True)
    [start, *_] = [piece for piece in stream_pieces(call, by_name("long_prefill")) if b"message_start" in piece]
    assert b"content_block_start" not in start


def test_an_error_in_mid_stream_wears_its_envelope() -> None:
    *_, last = events("error_mid_stream")
    assert last["type"] == "error"
    assert last["error"] == {"type": "api_error", "message": "the worker of model demo died (signal 11)"}


def test_an_answer_that_is_not_streamed_has_anthropics_shape() -> None:
    message = json.loads(collect(ANTHROPIC_MESSAGES, by_name("plain")))
    assert set(message) == {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"}
    assert (message["type"], message["role"]) == ("message", "assistant")


def test_an_error_body_has_anthropics_shape_and_says_what_claude_code_looks_for() -> None:
    error = ContextLengthExceeded("9000 tokens, at most 8192 fit")
    envelope = json.loads(anthropic_error(error, "req_1"))
    assert envelope["type"] == "error"
    assert envelope["request_id"] == "req_1"
    assert envelope["error"] == {
        "type": "invalid_request_error",
        "message": "prompt is too long: 9000 tokens, at most 8192 fit",
    }


def test_hidden_thinking_keeps_its_block_and_travels_in_the_signature() -> None:
    question = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
    body = json.dumps({**question, "stream": True, "thinking": {"type": "adaptive", "display": "omitted"}}).encode()
    renderer = parse_messages(body, CONTEXT).renderer()
    streamed = frames(renderer.feed(0, by_name("reasoning_text").events))
    deltas = [json.loads(frame.data)["delta"] for frame in streamed if frame.event == "content_block_delta"]
    assert "thinking_delta" not in [delta["type"] for delta in deltas]
    assert decode_opaque(deltas[0]["signature"]) == "Let me think."
    collector = parse_messages(body, CONTEXT).collector()
    collector.feed(0, by_name("reasoning_text").events)
    [thinking, _] = json.loads(collector.finish())["content"]
    assert thinking["thinking"] == ""
    assert decode_opaque(thinking["signature"]) == "Let me think."
