"""Chat tools and tool choices become wire tools and choices."""

from __future__ import annotations

from typing import Any

import pytest

from cortex.wire.inference import Tool, ToolChoice
from tests.dialects.openai.chat_bodies import CLOCK, WEATHER, parse, refusal


def test_tools_are_read_with_their_defaults() -> None:
    full = {
        "type": "function",
        "function": {
            "name": "f",
            "description": "d",
            "parameters": {"type": "object", "properties": {"a": {}}},
            "strict": True,
        },
    }
    assert parse(tools=[full, CLOCK]).tools == [
        Tool("f", "d", {"type": "object", "properties": {"a": {}}}, strict=True),
        Tool("clock", "", {"type": "object", "properties": {}}),
    ]


def test_hosted_tools_are_skipped() -> None:
    assert parse(tools=[{"type": "web_search"}, CLOCK]).tools == [Tool("clock")]


def test_a_custom_tool_is_shown_to_the_model_as_one_string() -> None:
    (tool,) = parse(tools=[{"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}}]).tools
    assert tool.name == "patch"
    assert tool.parameters["required"] == ["input"]


def test_of_two_tools_with_one_name_the_later_counts() -> None:
    later = {"type": "function", "function": {"name": "clock", "description": "new"}}
    assert parse(tools=[CLOCK, later]).tools == [Tool("clock", "new")]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "clock"}}, ToolChoice("required", ["clock"])),
        ({"type": "function", "name": "clock"}, ToolChoice("required", ["clock"])),
        ({"type": "tool", "name": "clock"}, ToolChoice("required", ["clock"])),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "required"}, ToolChoice("required")),
        ({"type": "none"}, ToolChoice("none")),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "clock"}}]},
            },
            ToolChoice("auto", ["clock"]),
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"name": "weather"}]}},
            ToolChoice("required", ["weather"]),
        ),
    ],
)
def test_every_form_of_tool_choice(choice: Any, expected: ToolChoice) -> None:
    assert parse(tools=[WEATHER, CLOCK], tool_choice=choice).tool_choice == expected


def test_a_custom_tools_regex_is_the_pattern_of_its_string() -> None:
    form = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[a-z]+"}}
    (tool,) = parse(tools=[{"type": "custom", "custom": {"name": "word", "format": form}}]).tools
    assert tool.parameters["properties"]["input"]["pattern"] == "^(?:[a-z]+)$"
    assert "this regex grammar:\n[a-z]+" in tool.description


def test_a_custom_tool_can_be_named() -> None:
    custom = {"type": "custom", "custom": {"name": "patch"}}
    assert parse(tools=[custom], tool_choice=custom).tool_choice == ToolChoice("required", ["patch"])


@pytest.mark.parametrize(
    "choice", ["required", "sometimes", {"type": "function", "function": {"name": "nope"}}, {"type": "function"}]
)
def test_a_choice_that_no_tool_satisfies_is_refused(choice: Any) -> None:
    tools = [] if choice == "required" else [CLOCK]
    assert refusal(tools=tools, tool_choice=choice).param == "tool_choice"


@pytest.mark.parametrize("given_", [True, False, None])
def test_parallel_tool_calls_is_passed_on(given_: bool | None) -> None:
    assert parse(parallel_tool_calls=given_).parallel is given_


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("auto", ToolChoice()), ("none", ToolChoice("none")), ({"name": "f"}, ToolChoice("required", ["f"]))],
)
def test_legacy_functions_are_tools_called_one_at_a_time(choice: Any, expected: ToolChoice) -> None:
    request = parse(functions=[{"name": "f", "parameters": {"type": "object"}}], function_call=choice)
    assert request.tools == [Tool("f", "", {"type": "object"})]
    assert request.tool_choice == expected
    assert request.parallel is False
