"""Tools of the Responses API: their names in the prompt and on the way back."""

from __future__ import annotations

from typing import Any

import pytest

from cortex.wire.inference import ToolChoice
from tests.dialects.openai.responses.bodies import FILES, PATCH, READ, request


def shown(*tools: dict[str, Any]) -> list[str]:
    return [tool.name for tool in request(tools=list(tools)).tools]


def test_namespaces_are_flattened() -> None:
    assert shown(FILES, READ) == ["files__read", "files__write", "read"]


def test_a_namespace_that_ends_in_underscores_gets_no_more_of_them() -> None:
    assert shown({**FILES, "name": "mcp__files__", "tools": [READ]}) == ["mcp__files__read"]


def test_a_flattened_name_is_safe_for_templates_and_unique() -> None:
    odd = {**FILES, "name": "my.files/x", "tools": [READ]}
    assert shown(odd, {**odd, "name": "my_files_x"}) == ["my_files_x__read", "my_files_x__read_2"]


@pytest.mark.parametrize(
    "kind", ["web_search", "image_generation", "code_interpreter", "mcp", "tool_search", "local_shell"]
)
def test_hosted_tools_are_skipped(kind: str) -> None:
    assert shown({"type": kind, "execution": "server", "name": kind}, READ) == ["read"]


def test_a_custom_tool_is_shown_as_a_function_of_one_string_with_its_grammar() -> None:
    [tool] = request(tools=[PATCH]).tools
    assert tool.parameters["required"] == ["input"]
    assert tool.description == "Edits.\n\nThe input follows this lark grammar:\nstart: /.+/"
    assert "pattern" not in tool.parameters["properties"]["input"]


def test_a_custom_tools_regex_is_the_pattern_of_its_string() -> None:
    """So the grammar of the call holds the model to it."""
    wanted = {"type": "grammar", "syntax": "regex", "definition": "a|b+"}
    [tool] = request(tools=[PATCH | {"format": wanted}]).tools
    assert tool.parameters["properties"]["input"]["pattern"] == "^(?:a|b+)$"
    assert "this regex grammar:\na|b+" in tool.description


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "read"}, ToolChoice("required", ["files__read"])),
        ({"type": "function", "name": "read", "namespace": "files"}, ToolChoice("required", ["files__read"])),
        ({"type": "custom", "name": "apply_patch"}, ToolChoice("required", ["apply_patch"])),
        ({"type": "web_search_preview"}, ToolChoice()),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "custom", "name": "apply_patch"}, {"type": "mcp"}],
            },
            ToolChoice("required", ["apply_patch"]),
        ),
    ],
)
def test_tool_choice(choice: Any, expected: ToolChoice) -> None:
    assert request(tools=[FILES, PATCH], tool_choice=choice).tool_choice == expected


def test_a_tool_is_required_only_where_one_is_left() -> None:
    assert request(tools=[{"type": "web_search"}], tool_choice="required").tool_choice == ToolChoice()
