"""The readers are strict: each of these small changes to a good stream has broken a real client."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest

from tests.dialects.expectations import READERS, Reader
from tests.dialects.harness import stream
from tests.dialects.readers.frames import Complaint
from tests.dialects.scripts import by_name

Change = Callable[[bytes], bytes]


def without(event: str) -> Change:
    return lambda body: re.sub(rb"event: %b\n.*?\n\n" % re.escape(event.encode()), b"", body, count=1, flags=re.DOTALL)


def twice(event: str) -> Change:
    pattern = rb"(event: %b\n.*?\n\n)" % re.escape(event.encode())
    return lambda body: re.sub(pattern, rb"\1\1", body, count=1, flags=re.DOTALL)


def replaced(old: str, new: str) -> Change:
    def change(body: bytes) -> bytes:
        assert old.encode() in body
        return body.replace(old.encode(), new.encode())

    return change


def matched(pattern: bytes, new: bytes = b"") -> Change:
    return lambda body: re.sub(pattern, new, body)


def cut_before(mark: bytes) -> Change:
    return lambda body: body[: body.index(mark)]


CASES: list[tuple[str, str, str, Change]] = [
    ("claude-code", "a second message_start", "plain", twice("message_start")),
    ("claude-code", "no message_start", "plain", without("message_start")),
    ("claude-code", "a delta without its block", "plain", without("content_block_start")),
    ("claude-code", "a block left open", "text_tool", without("content_block_stop")),
    ("claude-code", "an index used twice", "text_reasoning_text", replaced('"index":1', '"index":0')),
    (
        "claude-code",
        "a delta of another kind",
        "reasoning_text",
        replaced('"type":"text","text":""', '"type":"thinking","thinking":""'),
    ),
    ("claude-code", "no usage at the start", "plain", replaced('"input_tokens":12,', "")),
    ("claude-code", "no end", "plain", without("message_stop")),
    ("claude-code", "a word after the end", "plain", twice("message_stop")),
    ("claude-code", "[DONE]", "plain", lambda body: body + b"data: [DONE]\n\n"),
    ("claude-code", "no event line", "plain", replaced("event: content_block_delta\n", "")),
    ("zed-anthropic", "no input on a tool", "one_tool", replaced(',"input":{}', "")),
    (
        "zed-anthropic",
        "a signature that is empty",
        "reasoning_text",
        replaced('"signature":"cortex1:"', '"signature":""'),
    ),
    ("zed-anthropic", "a bare error object", "error_mid_stream", replaced('"error":{"type":"api_error",', '"x":{')),
    ("ai-sdk-anthropic", "no input tokens", "plain", replaced('"input_tokens":12,', "")),
    ("zed-chat", "usage that is empty", "plain", matched(rb'"usage":\{.*\}\}', rb'"usage":{}}')),
    ("zed-chat", "a null count", "plain", replaced('"total_tokens":51', '"total_tokens":null')),
    ("zed-chat", "no object", "plain", replaced('"object":"chat.completion.chunk",', "")),
    ("ai-sdk-chat", "no finish reason", "plain", replaced('"finish_reason":"stop"', '"finish_reason":null')),
    ("ai-sdk-chat", "an unknown role", "plain", replaced('"role":"assistant"', '"role":"model"')),
    ("ai-sdk-chat", "a call without its name", "one_tool", replaced('"name":"get_weather",', "")),
    ("codex", "no end", "plain", cut_before(b"event: response.completed")),
    ("codex", "a null count", "plain", replaced('"cache_write_tokens":0', '"cache_write_tokens":null')),
    ("codex", "reasoning without a summary", "reasoning_text", matched(rb'"summary":\[[^\]]*\]', rb'"s":0')),
    ("codex", "an item that isn't finished", "one_tool", without("response.output_item.done")),
    ("codex", "two ends", "plain", twice("response.completed")),
    ("zed-responses", "no output index", "plain", replaced('"output_index":0,', "")),
    ("zed-responses", "a call without its id", "one_tool", matched(rb'"id":"fc_\w+",')),
    ("ai-sdk-responses", "no usage", "plain", matched(rb'"usage":\{.*?\}\}?,"output_tokens"', b'"output_tokens"')),
    ("ai-sdk-responses", "a delta without its item", "plain", matched(rb'"item_id":"\w+",')),
]


@pytest.mark.parametrize(("name", "what", "script", "change"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_a_reader_notices(name: str, what: str, script: str, change: Change) -> None:
    dialect, read = READERS[name]
    good = stream(dialect, by_name(script))
    read(good)
    bad = change(good)
    assert bad != good
    assert complains(read, bad, by_name(script).calls), what


def complains(read: Reader, body: bytes, calls: list[tuple[str, str]]) -> bool:
    """Whether the client fails, or would act on fewer calls than were made."""
    try:
        return len(read(body).calls) < len(calls)
    except (Complaint, msgspec.MsgspecError, KeyError):
        return True
