"""Whatever a model says, every client reads it, exactly once, and the same streamed or not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings

from tests.dialects.adapters_anthropic import ANTHROPIC_MESSAGES
from tests.dialects.adapters_openai import OPENAI_CHAT, OPENAI_COMPLETIONS
from tests.dialects.adapters_responses import OPENAI_RESPONSES
from tests.dialects.expectations import READERS, end_word
from tests.dialects.harness import Dialect, collect, stream
from tests.dialects.readers import bodies
from tests.dialects.readers.frames import Said, frames
from tests.dialects.scripts import Script
from tests.dialects.strategies import broken_scripts, scripts, text_scripts

BODIES: list[tuple[Dialect, Callable[[bytes], Said]]] = [
    (OPENAI_CHAT, bodies.read_chat_body),
    (OPENAI_RESPONSES, bodies.read_responses_body),
    (ANTHROPIC_MESSAGES, bodies.read_anthropic_body),
]


def values(calls: list[tuple[str, str]]) -> list[tuple[str, object]]:
    return [(name, json.loads(arguments)) for name, arguments in calls]


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=50)
@given(script=scripts())
def test_a_stream_is_read_as_what_was_said(name: str, script: Script) -> None:
    dialect, read = READERS[name]
    said = read(stream(dialect, script))
    assert (said.text, said.reasoning, said.error) == (script.text, script.reasoning, None)
    assert said.end == end_word(dialect, script)
    if not (name == "zed-chat" and script.reason != "tool_calls"):
        assert said.calls == script.calls


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=50)
@given(script=broken_scripts())
def test_a_stream_that_breaks_ends_in_its_error(name: str, script: Script) -> None:
    dialect, read = READERS[name]
    said = read(stream(dialect, script))
    assert said.error == "the engine gave up"
    assert said.ended


@pytest.mark.parametrize(("dialect", "read"), BODIES, ids=lambda case: getattr(case, "name", None))
@settings(max_examples=50)
@given(script=scripts())
def test_a_body_says_what_was_said(dialect: Dialect, read: Callable[[bytes], Said], script: Script) -> None:
    said = read(collect(dialect, script))
    assert (said.text, said.reasoning) == (script.text, script.reasoning)
    assert values(said.calls) == values(script.calls)
    assert said.end == end_word(dialect, script)


@settings(max_examples=50)
@given(script=text_scripts())
def test_completions_stream_and_body_say_what_was_said(script: Script) -> None:
    chunks = [frame.data for frame in frames(stream(OPENAI_COMPLETIONS, script))]
    assert chunks[-1] == "[DONE]"
    assert chunks.count("[DONE]") == 1
    choices = [choice for chunk in chunks[:-1] for choice in json.loads(chunk)["choices"]]
    assert "".join(choice["text"] for choice in choices) == script.text
    said = bodies.read_completion_body(collect(OPENAI_COMPLETIONS, script))
    assert said.text == script.text
    assert [said.end] == [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
