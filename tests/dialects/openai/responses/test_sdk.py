"""The openai SDK reads every script's response as what the model said, streamed and not."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types.responses import Response

from cortex.dialects.custom_tools import unwrap_input
from tests.dialects.adapters_responses import OPENAI_RESPONSES
from tests.dialects.harness import collect, stream
from tests.dialects.scripts import SCRIPTS, Script
from tests.dialects.sdk import openai_client

GOOD = [script for script in SCRIPTS if script.failure is None]
BAD = [script for script in SCRIPTS if script.failure is not None]
CUT = ("length", "content_filter")
QUESTION: dict[str, Any] = {"model": "demo", "input": "Hi"}


def expected_calls(script: Script) -> list[tuple[str, str | None, str]]:
    """(name, namespace, arguments or raw input) as the client declared the tools."""
    match script.tool_kind:
        case "custom":
            return [(name, None, unwrap_input(arguments)) for name, arguments in script.calls]
        case "namespaced":
            return [(name.split("__")[1], name.split("__")[0], arguments) for name, arguments in script.calls]
        case "function":
            return [(name, None, arguments) for name, arguments in script.calls]


def check(response: Response, script: Script) -> None:
    assert response.output_text == script.text
    thoughts = [item for item in response.output if item.type == "reasoning"]
    assert "".join(part.text for item in thoughts for part in item.summary) == script.reasoning
    calls: list[tuple[str, str | None, str]] = []
    for item in response.output:
        if item.type == "function_call":
            calls.append((item.name, item.namespace, item.arguments))
        elif item.type == "custom_tool_call":
            calls.append((item.name, item.namespace, item.input))
    assert calls == expected_calls(script)
    assert response.status == ("incomplete" if script.reason in CUT else "completed")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.input_tokens_details.cached_tokens) == (42, 30)


@pytest.mark.parametrize("script", [s for s in GOOD if s.reason not in CUT], ids=lambda script: script.name)
def test_streamed_responses_accumulate_to_what_was_said(script: Script) -> None:
    with openai_client(stream(OPENAI_RESPONSES, script)).responses.stream(**QUESTION) as events:
        check(events.get_final_response(), script)


@pytest.mark.parametrize("script", [s for s in GOOD if s.reason in CUT], ids=lambda script: script.name)
def test_a_cut_response_streams_as_incomplete(script: Script) -> None:
    with openai_client(stream(OPENAI_RESPONSES, script)).responses.stream(**QUESTION) as events:
        last = list(events)[-1]
    assert last.type == "response.incomplete"
    check(last.response, script)


@pytest.mark.parametrize("script", GOOD, ids=lambda script: script.name)
def test_collected_responses_are_what_was_said(script: Script) -> None:
    check(openai_client(collect(OPENAI_RESPONSES, script)).responses.create(**QUESTION), script)


@pytest.mark.parametrize("script", GOOD, ids=lambda script: script.name)
def test_collected_responses_validate_against_the_sdk_types(script: Script) -> None:
    Response.model_validate_json(collect(OPENAI_RESPONSES, script), strict=True)


@pytest.mark.parametrize("script", GOOD, ids=lambda script: script.name)
def test_the_last_streamed_response_equals_its_collected_twin(script: Script) -> None:
    with openai_client(stream(OPENAI_RESPONSES, script)).responses.create(**QUESTION, stream=True) as events:
        last = list(events)[-1]
    collected = openai_client(collect(OPENAI_RESPONSES, script)).responses.create(**QUESTION)
    assert last.response.to_dict() == collected.to_dict()


@pytest.mark.parametrize("script", GOOD, ids=lambda script: script.name)
def test_events_are_numbered_without_a_gap(script: Script) -> None:
    with openai_client(stream(OPENAI_RESPONSES, script)).responses.create(**QUESTION, stream=True) as events:
        numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("script", BAD, ids=lambda script: script.name)
def test_a_failure_in_mid_stream_ends_in_response_failed(script: Script) -> None:
    assert script.failure is not None
    with openai_client(stream(OPENAI_RESPONSES, script)).responses.stream(**QUESTION) as events:
        last = list(events)[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert script.failure.message in last.response.error.message


@pytest.mark.parametrize("script", BAD, ids=lambda script: script.name)
def test_a_failure_before_the_answer_raises_with_our_message(script: Script) -> None:
    assert script.failure is not None
    client = openai_client(collect(OPENAI_RESPONSES, script), script.failure.to_error().status)
    with pytest.raises(openai.APIStatusError, match=script.failure.message.split("(")[0]):
        client.responses.create(**QUESTION)
