"""Schemas that real clients send and that no grammar takes whole, each with arguments that a model may write for it."""

from __future__ import annotations

from typing import Any

__all__ = ["ODD_SCHEMAS"]

_HOME = {"type": "object", "properties": {"city": {"type": "string"}, "zip": {"type": "integer"}}}
_TREE = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["label"],
}

ODD_SCHEMAS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {"path": "a.txt", "limit": 3}),
    "only the type": ({"type": "object"}, {"path": "a.txt", "deep": {"x": [1, True]}}),
    "more properties allowed": (
        {"type": "object", "properties": {"path": {"type": "string"}}, "additionalProperties": True},
        {"path": "a", "other": "b"},
    ),
    "more properties of a type": (
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"one": 1, "two": 2},
    ),
    "a root reference": (
        {"$ref": "#/$defs/Home", "$defs": {"Home": _HOME}},
        {"city": "Oslo", "zip": 150},
    ),
    "a root anyOf": (
        {"anyOf": [{"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}, _HOME]},
        {"path": "a"},
    ),
    "a root oneOf": (
        {"type": "object", "oneOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {}}}]},
        {"b": "text"},
    ),
    "a root allOf": (
        {"allOf": [_HOME, {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}]},
        {"name": "n", "city": "Oslo"},
    ),
    "requirements in branches": (
        {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        {"b": "x"},
    ),
    "patterns of names": ({"type": "object", "patternProperties": {"^x-": {"type": "string"}}}, {"x-a": "b"}),
    "a look-ahead": (
        {"type": "object", "properties": {"p": {"type": "string", "pattern": "^(?=.*a)b"}, "q": {"type": "integer"}}},
        {"p": "free", "q": 2},
    ),
    "a word boundary": ({"type": "object", "properties": {"p": {"type": "string", "pattern": r"\bfoo\b"}}}, {"p": "x"}),
    "int64 bounds": (
        {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}},
            "required": ["n"],
        },
        {"n": 5},
    ),
    "integers beyond 64 bits": (
        {"type": "object", "properties": {"n": {"type": "integer", "maximum": 2**70}}},
        {"n": 5},
    ),
    "a bound of 1e308": ({"type": "object", "properties": {"n": {"type": "number", "maximum": 1e308}}}, {"n": 2.5}),
    "the type any": ({"type": "object", "properties": {"v": {"type": "any"}}, "required": ["v"]}, {"v": "text"}),
    "Python's type names": (
        {"type": "dict", "properties": {"name": {"type": "str"}, "f": {"type": "float"}, "l": {"type": "list"}}},
        {"name": "x", "f": 1.5, "l": [1]},
    ),
    "types in capitals": (
        {"type": "OBJECT", "properties": {"name": {"type": "STRING"}, "n": {"type": "INTEGER"}}, "required": ["name"]},
        {"name": "7", "n": 7},
    ),
    "required null": ({"type": "object", "properties": {"name": {"type": "string"}}, "required": None}, {"name": "x"}),
    "required true": ({"type": "object", "properties": {"name": {"type": "string", "required": True}}}, {"name": "x"}),
    "properties of PHP": ({"type": "object", "properties": []}, {}),
    "PHP in a property": ({"type": "object", "properties": {"o": {"type": "object", "properties": []}}}, {"o": {}}),
    "properties null": ({"type": "object", "properties": None}, {"name": "x"}),
    "required beyond the properties": (
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b"]},
        {"a": "x", "b": "y"},
    ),
    "a dangling reference": (
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/Nowhere"}, "n": {"type": "integer"}}},
        {"a": "x", "n": 1},
    ),
    "a reference elsewhere": (
        {"type": "object", "properties": {"a": {"$ref": "https://example.org/schema.json"}}},
        {"a": "x"},
    ),
    "a reference to the root": (_TREE, {"label": "a", "children": [{"label": "b", "children": []}]}),
    "a reference to a property": (
        {"type": "object", "properties": {"home": _HOME, "work": {"$ref": "#/properties/home"}}},
        {"home": {"city": "Oslo"}, "work": {"city": "Rome", "zip": 1}},
    ),
    "a reference to itself": (
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"a": "x"},
    ),
    "a pattern that ends in a dollar sign": (
        {"type": "object", "properties": {"price": {"type": "string", "pattern": r"^\d+\$"}}, "required": ["price"]},
        {"price": "12$"},
    ),
    "an open-ended pattern": (
        {"type": "object", "properties": {"p": {"type": "string", "pattern": "^[^x]+"}}, "required": ["p"]},
        {"p": "abc"},
    ),
    "a pattern of two alternatives": (
        {"type": "object", "properties": {"p": {"type": "string", "pattern": "^a|b$"}}},
        {"p": "xb"},
    ),
    "optional arguments first": (
        {
            "type": "object",
            "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}, "all": {"type": "boolean"}},
            "required": ["path"],
        },
        {"all": True, "limit": 3, "path": "a"},
    ),
    "members of objects in lists in any order": (
        {
            "type": "object",
            "properties": {
                "todos": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"text": {"type": "string"}, "done": {"type": "boolean"}},
                        "required": ["text", "done"],
                    },
                }
            },
        },
        {"todos": [{"done": False, "text": "a"}]},
    ),
    "keywords that no grammar knows": (
        {
            "type": "object",
            "properties": {
                "l": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "contains": {"const": "a"}},
                "n": {"not": {"type": "string"}},
            },
            "if": {"required": ["l"]},
            "then": {"required": ["n"]},
            "dependentRequired": {"n": ["l"]},
            "propertyNames": {"pattern": "^[ln]$"},
        },
        {"l": ["a"], "n": 3},
    ),
    "draft 4": (
        {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
                "pair": {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]},
            },
        },
        {"n": 1, "pair": ["a", 1]},
    ),
    "odd enums": (
        {
            "type": "object",
            "properties": {"e": {"enum": []}, "f": {"enum": None}, "g": {"enum": ["a", 1, None, True]}},
        },
        {"e": "x", "f": "y", "g": 1},
    ),
    "odd names": (
        {
            "type": "object",
            "properties": {"$filter": {"type": "string"}, "@type": {"type": "string"}, "a-b.c": {"type": "integer"}},
        },
        {"$filter": "x eq 1", "@type": "T", "a-b.c": 1},
    ),
    "many optional arguments": (
        {"type": "object", "properties": {f"k{number}": {"type": "integer"} for number in range(70)}},
        {"k69": 1, "k3": 2},
    ),
    "booleans for schemas": ({"type": "object", "properties": {"a": True, "b": {"items": True}}}, {"a": "x", "b": [1]}),
}
