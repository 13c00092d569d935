"""Raw values by the schema's types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.engine.chat.splitting.typed_values import json_value, nested_tags_value, property_schema
from cortex.engine.grammar.references import types_of


@pytest.mark.parametrize(
    ("raw", "types", "expected"),
    [
        ("7", {"integer"}, 7),
        ("7", {"string"}, "7"),
        ("7", {"number"}, 7),
        (" 7 ", {"integer"}, 7),
        ("7.5", {"integer"}, "7.5"),
        ("seven", {"integer"}, "seven"),
        ("true", {"boolean"}, True),
        ("False", {"boolean"}, False),
        ("TRUE", {"boolean"}, True),
        ("null", {"string", "null"}, None),
        ("None", {"null"}, None),
        ("nothing", {"string", "null"}, "nothing"),
        ('{"a": 1}', {"object"}, {"a": 1}),
        ("{'a': True}", {"object"}, {"a": True}),
        ("[1, 2", {"array"}, "[1, 2"),
        ("", {"object"}, {}),
        ("", {"array"}, []),
        ("", {"string"}, ""),
        ("12", set(), 12),
        ("twelve", set(), "twelve"),
        ('"quoted"', set(), '"quoted"'),
        ("1e999", {"number"}, "1e999"),
        ("[" * 5000, {"array"}, "[" * 5000),
        ("é\n\t", {"string"}, "é\n\t"),
        ("1_000", {"integer"}, 1000),
        ("0x10", {"integer"}, 16),
        ("42", {"string", "integer"}, 42),
        ("1.5", {"string", "number"}, 1.5),
        ("true", {"string", "boolean"}, True),
        ("None", {"string", "null"}, None),
        ("[1, 2]", {"string", "array"}, [1, 2]),
        ("{'a': 1}", set(), {"a": 1}),
    ],
)
def test_a_raw_value_becomes_what_the_schema_allows_else_a_string(raw: str, types: set[str], expected: Any) -> None:
    value = json.loads(json_value(raw, types))
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    "raw",
    ["1.10", "1e5", "1E5", "1_000", "0x10", "0b1", "0o7", "+49", "007", "1.", ".5", "-0", "1j", "12345678901234567890",
     "(1, 2)", "1, 2", "None", "NaN", "Infinity", "1e999", "b'x'", "...", "{1, 2}"],
)  # fmt: skip
@pytest.mark.parametrize("types", [set(), {"string"}, {"string", "number"}, {"string", "integer", "array"}])
def test_a_text_that_a_number_would_change_stays_a_text(raw: str, types: set[str]) -> None:
    assert json.loads(json_value(raw, types)) == raw


def test_the_digits_inside_a_list_stay() -> None:
    assert json_value("[1.10, 1e5]", {"array"}) == "[1.10, 1e5]"


@given(raw=st.text(), types=st.sets(st.sampled_from(["string", "integer", "number", "boolean", "array", "null"])))
def test_any_raw_value_is_valid_json(raw: str, types: set[str]) -> None:
    json.loads(json_value(raw, types))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"enum": ["a", 1, None]}, {"string", "integer", "null"}),
        ({"const": True}, {"boolean"}),
        ({"anyOf": [{"type": "integer"}, {"enum": ["x"]}]}, {"integer", "string"}),
        ({"anyOf": [{"type": "integer"}, {}]}, set()),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array"}}}, {"array"}),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, set()),
        ({"$ref": "#/nowhere"}, set()),
        ({}, set()),
    ],
)
def test_types_are_found_through_references_and_branches(schema: dict[str, Any], expected: set[str]) -> None:
    assert types_of(schema) == expected


def test_the_types_of_a_schema_that_doubles_at_each_level_are_found_at_once() -> None:
    definitions: dict[str, Any] = {"d0": {"type": "string"}}
    for depth in range(1, 200):
        reference = {"$ref": f"#/$defs/d{depth - 1}"}
        definitions[f"d{depth}"] = {"anyOf": [reference, reference, {"type": "integer"}]}
    schema = {"$ref": "#/$defs/d199", "$defs": definitions}
    assert types_of(schema) == {"string", "integer"}
    assert property_schema({"properties": {"a": {"$ref": "#/$defs/d199"}}, "$defs": definitions}, "a")


def test_the_types_of_a_schema_that_refers_to_itself_are_those_of_its_other_branches() -> None:
    tree = {"anyOf": [{"type": "integer"}, {"$ref": "#"}]}
    assert types_of(tree) == {"integer"}


def test_an_arguments_schema_keeps_the_definitions_it_refers_to() -> None:
    parameters = {"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}
    assert types_of(property_schema(parameters, "a")) == {"integer"}
    assert property_schema(parameters, "b") == {}


@pytest.mark.parametrize(
    ("raw", "schema", "expected"),
    [
        ("@<a>1@</a>@<b>x@</b>", {}, {"a": 1, "b": "x"}),
        ("@<item>1@</item>@<item>2@</item>", {"items": {"type": "string"}}, ["1", "2"]),
        ("@<a>@<a>1@</a>@</a>", {}, {"a": {"a": 1}}),
        ("@<a>@</a>", {"properties": {"a": {"type": "object"}}}, {"a": {}}),
        ("@<a>@</a>", {"properties": {"a": {"type": "string"}}}, {"a": ""}),
        ("@<a>never closed", {}, {"a": "never closed"}),
        ("no tag", {"type": "string"}, "no tag"),
    ],
)
def test_nested_tags_are_typed_by_the_schema(raw: str, schema: dict[str, Any], expected: object) -> None:
    assert json.loads(nested_tags_value(raw, schema, "@")) == expected
