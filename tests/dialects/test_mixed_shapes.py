"""Shapes of one API in requests to another: Cursor's, Codex's, the AI SDK's. None is dropped in silence."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cortex.dialects.anthropic.messages import parse_messages
from cortex.dialects.openai.responses.request import parse_responses
from cortex.errors import BadRequest
from cortex.wire.events import ChoiceFinished, Event, Finished, ToolCallArguments, ToolCallEnd, ToolCallStart
from cortex.wire.inference import InferenceRequest, Message, Text, Thinking, Tool, ToolCall, ToolChoice, ToolResult
from tests.dialects.harness import CONTEXT
from tests.dialects.openai.chat_bodies import USER, parse, parse_chat, refusal

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
GRAMMAR = {"syntax": "regex", "definition": "[a-z]+"}
NESTED = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}
FLAT = {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
BLOCK = {"name": "f", "description": "d", "input_schema": SCHEMA, "strict": True}
CUSTOM_BLOCK = BLOCK | {"type": "custom"}
NESTED_CUSTOM = {"type": "custom", "custom": {"name": "w", "format": {"type": "grammar", "grammar": GRAMMAR}}}
FLAT_CUSTOM = {"type": "custom", "name": "w", "format": {"type": "grammar", **GRAMMAR}}


def anthropic(**fields: Any) -> InferenceRequest:
    body = msgspec.json.encode({"model": "demo", "messages": [USER]} | fields)
    (request,) = parse_messages(body, CONTEXT).requests
    assert isinstance(request, InferenceRequest)
    return request


def responses(**fields: Any) -> InferenceRequest:
    (request,) = parse_responses(msgspec.json.encode({"model": "demo", "input": "Hi"} | fields), CONTEXT).requests
    assert isinstance(request, InferenceRequest)
    return request


@pytest.mark.parametrize("tool", [NESTED, FLAT, BLOCK, CUSTOM_BLOCK], ids=["nested", "flat", "anthropic", "custom"])
def test_chat_takes_every_apis_function_tools(tool: dict[str, Any]) -> None:
    assert parse(tools=[tool]).tools == [Tool("f", "d", SCHEMA, strict=True)]


@pytest.mark.parametrize("tool", [NESTED, FLAT], ids=["nested", "flat"])
def test_responses_and_messages_take_openais_function_tools(tool: dict[str, Any]) -> None:
    assert responses(tools=[tool]).tools == [Tool("f", "d", SCHEMA, strict=True)]
    assert anthropic(tools=[tool]).tools == [Tool("f", "d", SCHEMA, strict=True)]


def test_a_function_without_parameters_takes_none_in_every_api() -> None:
    tool = {"type": "function", "name": "f"}
    assert parse(tools=[tool]).tools == responses(tools=[tool]).tools == anthropic(tools=[tool]).tools == [Tool("f")]


@pytest.mark.parametrize("tool", [NESTED_CUSTOM, FLAT_CUSTOM], ids=["nested", "flat"])
def test_custom_tools_are_taken_nested_and_flat(tool: dict[str, Any]) -> None:
    for request in (parse(tools=[tool]), responses(tools=[tool])):
        assert request.tools[0].name == "w"
        assert request.tools[0].parameters["properties"]["input"]["pattern"] == "^(?:[a-z]+)$"


def test_a_call_of_a_flat_custom_tool_is_answered_with_its_raw_text() -> None:
    """Codex's apply_patch, sent to chat completions."""
    call = parse_chat(msgspec.json.encode({"model": "demo", "messages": [USER], "tools": [FLAT_CUSTOM]}), CONTEXT)
    collector = call.collector()
    made: list[Event] = [
        ToolCallStart(0, "c", "w"),
        ToolCallArguments(0, '{"input":"abc"}'),
        ToolCallEnd(0),
        ChoiceFinished("tool_calls"),
        Finished(),
    ]
    collector.feed(0, made)
    [told] = msgspec.json.decode(collector.finish())["choices"][0]["message"]["tool_calls"]
    assert told["custom"] == {"name": "w", "input": "abc"}


@pytest.mark.parametrize("tool", [{"type": "custom"}, {"type": "function"}, {}])
def test_a_tool_of_no_shape_is_refused_by_its_place(tool: dict[str, Any]) -> None:
    assert (refusal(tools=[tool]).param or "").startswith("tools[0].")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "tool", "name": "f"}, ToolChoice("required", ["f"])),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"name": "f"}]}, ToolChoice("required", ["f"])),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("required", ["f"])),
        ({"type": "function", "name": "f"}, ToolChoice("required", ["f"])),
    ],
)
def test_tool_choices_of_other_apis_are_heard(choice: dict[str, Any], expected: ToolChoice) -> None:
    assert parse(tools=[FLAT], tool_choice=choice).tool_choice == expected
    if choice["type"] != "allowed_tools":
        assert responses(tools=[FLAT], tool_choice=choice).tool_choice == expected


def test_anthropics_word_against_parallel_calls_is_heard_in_chat() -> None:
    assert parse(tools=[BLOCK], tool_choice={"type": "auto", "disable_parallel_tool_use": True}).parallel is False
    assert parse(tools=[BLOCK], tool_choice={"type": "auto"}, parallel_tool_calls=True).parallel is True


def test_anthropics_blocks_in_chat_are_calls_and_results() -> None:
    """Cursor sends an agent's history so."""
    answer = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
    ]
    results = [
        {"type": "text", "text": "And now?"},
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "one"}]},
        {"type": "tool_result", "tool_use_id": "t2", "content": "two", "is_error": True},
    ]
    read = parse(
        messages=[USER, {"role": "assistant", "content": answer}, {"role": "user", "content": results}]
    ).messages
    assert read[1].parts == [
        Thinking("hm"),
        Text("Let me see."),
        ToolCall("t1", "f", '{"a":1}'),
        ToolCall("t2", "g", "{}"),
    ]
    assert read[2:] == [
        Message("tool", [ToolResult("t1", [Text("one")], "f"), ToolResult("t2", [Text("two")], "g", is_error=True)]),
        Message("user", [Text("And now?")]),
    ]


def test_a_block_may_answer_a_call_of_the_other_form() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    block = {"type": "tool_result", "tool_use_id": "c", "content": "x"}
    for role in ("user", "tool"):
        read = parse(messages=[USER, {"role": "assistant", "tool_calls": [call]}, {"role": role, "content": [block]}])
        assert read.messages[2:] == [Message("tool", [ToolResult("c", [Text("x")], "f")])]


def test_a_call_that_is_sent_in_both_forms_is_one_call() -> None:
    block = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    more = {"id": "d", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    read = parse(messages=[USER, {"role": "assistant", "content": [block], "tool_calls": [call, more]}]).messages
    assert read[1].parts == [ToolCall("c", "f", "{}"), ToolCall("d", "g", "{}")]


def test_anthropics_system_prompt_is_heard_in_chat() -> None:
    for system in ("Be brief.", [{"type": "text", "text": "Be brief."}]):
        assert parse(system=system).messages[0] == Message("system", [Text("Be brief.")])


def test_a_body_of_another_api_is_told_where_to_go() -> None:
    with pytest.raises(BadRequest, match="/v1/responses"):
        parse_chat(msgspec.json.encode({"model": "demo", "input": "Hi"}), CONTEXT)
    with pytest.raises(BadRequest, match="/v1/chat/completions"):
        parse_responses(msgspec.json.encode({"model": "demo", "messages": [USER]}), CONTEXT)
    with pytest.raises(BadRequest, match="messages is required"):
        parse_chat(b'{"model": "demo"}', CONTEXT)
