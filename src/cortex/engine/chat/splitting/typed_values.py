"""Untyped markup to JSON: a raw value becomes what the tool's schema says it is."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from typing import Any

from cortex.wire.inference import JsonSchema

__all__ = ["item_schema", "json_value", "property_schema", "types_of"]

_MOST_REFERENCES = 16
_EMPTY = {"null": "null", "object": "{}", "array": "[]"}
"""What nothing at all means where it is no string."""
_PYTHON_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
    (type(None), "null"),
)


def property_schema(parameters: JsonSchema, key: str) -> JsonSchema:
    """The schema of one argument, definitions within reach; {} if nothing is said of it."""
    resolved = _resolved(parameters, parameters)
    properties = resolved.get("properties")
    found = properties.get(key) if isinstance(properties, Mapping) else None
    return _within(parameters, found or resolved.get("additionalProperties"))


def item_schema(schema: JsonSchema) -> JsonSchema:
    """The schema of a list's elements; {} if nothing is said of them."""
    return _within(schema, _resolved(schema, schema).get("items"))


def _within(root: JsonSchema, part: object) -> JsonSchema:
    if not isinstance(part, Mapping):
        return {}
    return {**{name: root[name] for name in ("$defs", "definitions") if name in root}, **part}


def types_of(schema: JsonSchema) -> set[str]:
    """The JSON types a value of `schema` may have; empty if it may have any."""
    return _types(schema, schema, _MOST_REFERENCES)


def json_value(raw: str, types: set[str]) -> str:
    """JSON text for `raw` as one of `types`; a string where it is nothing else that is allowed."""
    if not raw.strip() and types and "string" not in types:
        return next((empty for kind, empty in _EMPTY.items() if kind in types), '""')
    if types != {"string"}:
        for value in _readings(raw.strip()):
            kind = _type_of(value)
            if not types or kind in types or (kind == "integer" and "number" in types):
                return json.dumps(value, ensure_ascii=False)
    return json.dumps(raw, ensure_ascii=False)


def _readings(text: str) -> Iterable[Any]:
    """What `text` may mean: JSON first, then Python's spelling of it. A string in quotes is no reading of its own."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
            json.dumps(value)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if not isinstance(value, str) and _is_finite(value):
            yield value
    if text.lower() in ("true", "false"):
        yield text.lower() == "true"


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or value - value == 0


def _type_of(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return "number"
    return next((name for kind, name in _PYTHON_TYPES if isinstance(value, kind)), "")


def _types(schema: Any, root: JsonSchema, depth: int) -> set[str]:
    if not isinstance(schema, Mapping) or depth == 0:
        return set()
    schema = _resolved(schema, root)
    said = schema.get("type")
    if isinstance(said, str):
        return {said}
    if isinstance(said, list):
        return {kind for kind in said if isinstance(kind, str)}
    for key in ("anyOf", "oneOf"):
        if isinstance(branches := schema.get(key), list):
            kinds = [_types(branch, root, depth - 1) for branch in branches]
            return set().union(*kinds) if all(kinds) else set()
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return {_type_of(value) for value in values} if isinstance(values, list) else set()


def _resolved(schema: Mapping[str, Any], root: JsonSchema) -> Mapping[str, Any]:
    """`schema`, or what its local `$ref` points to."""
    for _ in range(_MOST_REFERENCES):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        target: Any = root
        for step in reference[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, Mapping) else None
        if not isinstance(target, Mapping):
            break
        schema = target
    return schema
