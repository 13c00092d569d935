"""The anthropic SDK reads every script as what the model said, streamed and not."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic.types import Message

from tests.dialects.adapters_anthropic import ANTHROPIC_MESSAGES
from tests.dialects.harness import collect, stream
from tests.dialects.scripts import SCRIPTS, Script
from tests.dialects.sdk import anthropic_client

GOOD = [script for script in SCRIPTS if script.failure is None]
BAD = [script for script in SCRIPTS if script.failure is not None]
QUESTION: dict[str, Any] = {"model": "demo", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
REASONS = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}


def check(message: Message, script: Script) -> None:
    assert "".join(block.text for block in message.content if block.type == "text") == script.text
    assert "".join(block.thinking for block in message.content if block.type == "thinking") == script.reasoning
    calls = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    assert calls == [(name, json.loads(arguments)) for name, arguments in script.calls]
    assert script.reason is not None
    assert message.stop_reason == REASONS[script.reason]
    assert message.stop_sequence == (script.stop[0] if script.stop else None)
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (12, 30)
    assert all(block.signature for block in message.content if block.type == "thinking")


@pytest.mark.parametrize("script", GOOD, ids=lambda script: script.name)
def test_streamed_messages_accumulate_to_what_was_said(script: Script) -> None:
    with anthropic_client(stream(ANTHROPIC_MESSAGES, script)).messages.stream(**QUESTION) as events:
        check(events.get_final_message(), script)


@pytest.mark.parametrize("script", GOOD, ids=lambda script: script.name)
def test_collected_messages_are_what_was_said(script: Script) -> None:
    body = collect(ANTHROPIC_MESSAGES, script)
    check(anthropic_client(body).messages.create(**QUESTION), script)
    Message.model_validate_json(body, strict=True)


@pytest.mark.parametrize("script", GOOD, ids=lambda script: script.name)
def test_a_streamed_message_equals_its_collected_twin(script: Script) -> None:
    with anthropic_client(stream(ANTHROPIC_MESSAGES, script)).messages.stream(**QUESTION) as events:
        streamed = events.get_final_message().to_dict(exclude_none=True)
    collected = (
        anthropic_client(collect(ANTHROPIC_MESSAGES, script)).messages.create(**QUESTION).to_dict(exclude_none=True)
    )
    assert streamed == collected


@pytest.mark.parametrize("script", BAD, ids=lambda script: script.name)
def test_a_failure_in_mid_stream_raises_with_our_message(script: Script) -> None:
    assert script.failure is not None
    client = anthropic_client(stream(ANTHROPIC_MESSAGES, script))
    with (
        pytest.raises(anthropic.APIStatusError, match=script.failure.message.split("(")[0]),
        client.messages.stream(**QUESTION) as events,
    ):
        events.until_done()


@pytest.mark.parametrize("script", BAD, ids=lambda script: script.name)
def test_a_failure_before_the_answer_raises_with_our_message(script: Script) -> None:
    assert script.failure is not None
    status = script.failure.to_error().status
    client = anthropic_client(collect(ANTHROPIC_MESSAGES, script), status)
    with pytest.raises(anthropic.APIStatusError) as raised:
        client.messages.create(**QUESTION)
    assert raised.value.status_code == status
    assert script.failure.message in str(raised.value)
