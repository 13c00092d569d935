"""Raw text values from markup to JSON, typed by the tool's JSON Schema."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cortex.wire.inference import JsonSchema

__all__ = ["item_schema", "json_value", "nested_tags_value", "property_schema", "types_of"]

_MAX_REFERENCES = 16
_MAX_DEPTH = 64
_EMPTY = {"null": "null", "object": "{}", "array": "[]"}
"""What an empty value means where it may not be a string."""
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
    """The schema of one argument, with the root's definitions; {} if there is none."""
    resolved = _resolved(parameters, parameters)
    properties = resolved.get("properties")
    found = properties.get(key) if isinstance(properties, Mapping) else None
    return _within(parameters, found or resolved.get("additionalProperties"))


def item_schema(schema: JsonSchema) -> JsonSchema:
    """The schema of a list's elements, with the root's definitions; {} if there is none."""
    return _within(schema, _resolved(schema, schema).get("items"))


def _within(root: JsonSchema, part: object) -> JsonSchema:
    if not isinstance(part, Mapping):
        return {}
    return {**{name: root[name] for name in ("$defs", "definitions") if name in root}, **part}


def types_of(schema: JsonSchema) -> set[str]:
    """The JSON types that a value of `schema` may have; empty if the schema doesn't restrict them."""
    return _types(schema, schema, _MAX_REFERENCES)


def json_value(raw: str, types: set[str]) -> str:
    """JSON text for `raw` as one of `types`; a string where it can't be read as any other allowed type."""
    if not raw.strip() and types and "string" not in types:
        return next((empty for kind, empty in _EMPTY.items() if kind in types), '""')
    if types != {"string"}:
        for value in _readings(raw.strip()):
            kind = _type_of(value)
            if not types or kind in types or (kind == "integer" and "number" in types):
                return json.dumps(value, ensure_ascii=False)
    return json.dumps(raw, ensure_ascii=False)


def nested_tags_value(raw: str, schema: JsonSchema, prefix: str) -> str:
    """JSON text for a value written as nested tags, each with `prefix` before it: `P<k>v P</k>` (MiniMax M3).

    Tags become an object, or a list if all are named `item`. The text of a leaf is typed by `schema`, as is a value
    without any tags: only the schema distinguishes an empty object, an empty list, an empty string and null.
    """
    tag = re.compile(re.escape(prefix) + r"<([^<>/][^<>]*)>")
    return json.dumps(_tags_value(raw, schema, prefix, tag, _MAX_DEPTH), ensure_ascii=False)


def _tags_value(raw: str, schema: JsonSchema, prefix: str, tag: re.Pattern[str], depth: int) -> Any:
    members: list[tuple[str, Any]] = []
    position = 0
    while depth and (found := tag.search(raw, position)) is not None:
        name, start = found[1], found.end()
        end = _end_of_tag(raw, name, prefix, start)
        inner = item_schema(schema) if name == "item" else {}
        inner = inner or property_schema(schema, name)
        members.append((name, _tags_value(raw[start:end], inner, prefix, tag, depth - 1)))
        position = end + len(f"{prefix}</{name}>")
    if not members:
        return json.loads(json_value(raw, types_of(schema)))
    if all(name == "item" for name, _ in members):
        return [value for _, value in members]
    return dict(members)


def _end_of_tag(raw: str, name: str, prefix: str, start: int) -> int:
    """Where the closing tag of `name` stands, past tags of the same name nested inside it; the end if there is none."""
    opener, closer = f"{prefix}<{name}>", f"{prefix}</{name}>"
    depth, position = 1, start
    while depth:
        closing, opening = raw.find(closer, position), raw.find(opener, position)
        if closing < 0:
            return len(raw)
        nested = 0 <= opening < closing
        depth += 1 if nested else -1
        position = opening + len(opener) if nested else closing + len(closer)
    return position - len(closer)


def _readings(text: str) -> Iterable[Any]:
    """The values that `text` may stand for: as JSON first, then as a Python literal. Quoted strings are left out."""
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
    declared = schema.get("type")
    if isinstance(declared, str):
        return {declared}
    if isinstance(declared, list):
        return {kind for kind in declared if isinstance(kind, str)}
    for key in ("anyOf", "oneOf"):
        if isinstance(branches := schema.get(key), list):
            kinds = [_types(branch, root, depth - 1) for branch in branches]
            return set().union(*kinds) if all(kinds) else set()
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return {_type_of(value) for value in values} if isinstance(values, list) else set()


def _resolved(schema: Mapping[str, Any], root: JsonSchema) -> Mapping[str, Any]:
    """`schema`, or what its local `$ref` points to, up to 16 references deep."""
    for _ in range(_MAX_REFERENCES):
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
