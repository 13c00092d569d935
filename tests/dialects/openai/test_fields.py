"""Fields that the text APIs share: limits, stop strings, output formats, reasoning."""

from __future__ import annotations

from typing import Any

import pytest

from cortex.wire.inference import Grammar, JsonObjectFormat, JsonSchemaFormat, Reasoning, TextFormat
from tests.dialects.openai.chat_bodies import CLOCK, parse, refusal


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"n_predict": 7, "max_completion_tokens": 6}, 7),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": 10**30}, 2**31 - 1),
    ],
)
def test_the_output_limit_is_read_from_any_of_its_names(fields: dict[str, Any], expected: int | None) -> None:
    assert parse(**fields).max_output == expected


@pytest.mark.parametrize(
    ("stop", "expected"), [(None, []), ("a", ["a"]), (["a", "", "b"], ["a", "b"]), ("", []), ([], [])]
)
def test_stop_strings_lose_their_empty_ones(stop: Any, expected: list[str]) -> None:
    assert parse(stop=stop).stop == expected


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, TextFormat()),
        ({"response_format": {"type": "text"}}, TextFormat()),
        ({"response_format": {"type": "json_object"}}, JsonObjectFormat()),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, JsonSchemaFormat(SCHEMA, strict=False)),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            JsonSchemaFormat(SCHEMA, "x", strict=False),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}},
            JsonSchemaFormat(SCHEMA),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": False}}},
            JsonSchemaFormat(SCHEMA, strict=False),
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, JsonObjectFormat()),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, JsonObjectFormat()),
        ({"json_schema": SCHEMA}, JsonSchemaFormat(SCHEMA, strict=False)),
        ({"grammar": 'root ::= "a"'}, Grammar("gbnf", 'root ::= "a"')),
    ],
)
def test_output_formats(fields: dict[str, Any], expected: object) -> None:
    assert parse(**fields).format == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"grammar": "root ::= x", "json_schema": SCHEMA},
        {"grammar": "root ::= x", "response_format": {"type": "json_object"}},
        {"grammar": "root ::= x", "tools": [CLOCK]},
    ],
)
def test_a_grammar_stands_alone(fields: dict[str, Any]) -> None:
    assert refusal(**fields).param == "grammar"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Reasoning()),
        ({"reasoning_effort": "none"}, Reasoning("off")),
        ({"reasoning_effort": "high"}, Reasoning("on", "high")),
        ({"reasoning_effort": None}, Reasoning()),
        ({"reasoning_budget_tokens": 100}, Reasoning("on", budget=100)),
        ({"thinking_budget_tokens": 100}, Reasoning("on", budget=100)),
        ({"reasoning_budget_tokens": 0}, Reasoning("off")),
        ({"reasoning_budget_tokens": -1}, Reasoning()),
        ({"chat_template_kwargs": {"enable_thinking": False}}, Reasoning("off")),
        ({"chat_template_kwargs": {"enable_thinking": True}}, Reasoning("on")),
    ],
)
def test_every_way_to_say_how_much_to_think(fields: dict[str, Any], expected: Reasoning) -> None:
    assert parse(**fields).reasoning == expected


def test_enable_thinking_as_a_string_is_refused() -> None:
    """The string "false" is true to a template."""
    error = refusal(chat_template_kwargs={"enable_thinking": "false"})
    assert error.param == "chat_template_kwargs.enable_thinking"
