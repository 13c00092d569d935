"""JSON Schemas that no grammar takes, repaired: what can't be enforced is left out, and all the rest is kept.

Only for schemas that aren't strict. Real clients send `properties: []` (PHP's empty object), `required: null`,
`type: "STRING"`, references to nowhere, bounds beyond 64 bits and patterns with look-ahead; a request that merely
offers such a tool must be served, and a forced call of it be held to as much as possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cortex.engine.grammar.references import ONE_SCHEMA, SCHEMA_LISTS, SCHEMA_MAPS, target_of, type_names
from cortex.wire.inference import JsonSchema

__all__ = ["loosened", "readable"]

_ANNOTATIONS = ("title", "description", "default", "example", "examples", "$comment", "$schema", "$id", "deprecated")
_EXPENDABLE = (
    *("pattern", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "propertyNames"),
    *("not", "if", "then", "else", "contains", "uniqueItems", "dependentRequired", "unevaluatedProperties"),
    *("patternProperties", "required", "additionalProperties", "prefixItems", "oneOf", "allOf", "anyOf"),
    *("items", "const", "enum", "properties", "$ref", "type"),
)
"""Keywords in the order in which they are given up; a type goes last."""


# ---- 1. keywords that have a meaning


def readable(schema: JsonSchema, *, annotations: bool = False) -> JsonSchema:
    """`schema` without keywords whose value means nothing there, and (unless `annotations`) without descriptions."""
    found = _readable(schema, schema, () if annotations else _ANNOTATIONS)
    return found if isinstance(found, dict) else {}


def _readable(node: Any, root: JsonSchema, dropped: Sequence[str]) -> Any:
    if isinstance(node, bool):
        return node
    if not isinstance(node, Mapping):
        return {}
    result = {key: value for key, value in node.items() if key not in dropped and _is_meaningful(key, value)}
    if "type" in result:
        names = type_names(result["type"]) or []
        result["type"] = names[0] if len(names) == 1 else names
    if "$ref" in result and not _leads_somewhere(result["$ref"], root):
        del result["$ref"]
    _modernise(node, result)
    for key in SCHEMA_MAPS:
        if key in result:
            result[key] = {name: _readable(part, root, dropped) for name, part in result[key].items()}
    for key in SCHEMA_LISTS:
        if key in result:
            result[key] = [_readable(part, root, dropped) for part in result[key]]
    for key in ONE_SCHEMA:
        if key in result:
            result[key] = _readable(result[key], root, dropped)
    return result


def _leads_somewhere(reference: str, root: JsonSchema) -> bool:
    """Whether there is a schema at the end of the references that begin with this one."""
    seen: set[str] = set()
    while reference not in seen:
        seen.add(reference)
        target = target_of(reference, root)
        if not isinstance(target, Mapping) or not isinstance(target.get("$ref"), str) or len(target) > 1:
            return isinstance(target, Mapping | bool)
        reference = target["$ref"]
    return False


def _modernise(node: Mapping[str, Any], result: dict[str, Any]) -> None:
    """Draft 4's `items: [a, b]` and `exclusiveMinimum: true` as later drafts write them."""
    if isinstance(node.get("items"), list) and node["items"]:
        result.setdefault("prefixItems", node["items"])
        if isinstance(node.get("additionalItems"), bool | Mapping):
            result["items"] = node["additionalItems"]
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if node.get(exclusive) is True and inclusive in result:
            result[exclusive] = result.pop(inclusive)


def _is_meaningful(key: str, value: Any) -> bool:
    return key not in _CHECKS or _CHECKS[key](value)


def _is_schema(value: Any) -> bool:
    return isinstance(value, bool | Mapping)


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_schema_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_values(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "type": lambda value: type_names(value) is not None,
    "$ref": _is_text,
    "required": _are_names,
    "enum": _is_values,
    "pattern": _is_text,
    "format": _is_text,
    "multipleOf": lambda value: _is_number(value) and value > 0,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        _is_count,
    ),
    **dict.fromkeys(SCHEMA_MAPS, _is_map),
    **dict.fromkeys(SCHEMA_LISTS, _is_schema_list),
    **dict.fromkeys(ONE_SCHEMA, _is_schema),
}


# ---- 2. keywords that a grammar takes


def loosened(schema: JsonSchema, compiles: Callable[[JsonSchema], bool]) -> JsonSchema:
    """`schema` without the keywords for which `compiles` says that no grammar takes them.

    Parts come first, each judged without its references: a part is to lose only what it says itself.
    """
    result: JsonSchema = _loosened(schema, lambda node: compiles(_without_references(node)))
    for candidate in (result, _without_references(result)):
        if compiles(candidate):
            return dict(candidate)
    return {}


def _loosened(node: Any, compiles: Callable[[JsonSchema], bool]) -> Any:
    if not isinstance(node, dict) or compiles(node):
        return node
    result = dict(node)
    for key in SCHEMA_MAPS:
        if key in result:
            result[key] = {name: _loosened(part, compiles) for name, part in result[key].items()}
    for key in SCHEMA_LISTS:
        if key in result:
            result[key] = [_loosened(part, compiles) for part in result[key]]
    for key in ONE_SCHEMA:
        if key in result:
            result[key] = _loosened(result[key], compiles)
    return _without_expendable(result, compiles)


def _without_expendable(node: JsonSchema, compiles: Callable[[JsonSchema], bool]) -> JsonSchema:
    """`node` without one keyword if that is enough, else without as many as it takes."""
    if compiles(node):
        return node
    present = [key for key in _EXPENDABLE if key in node]
    for key in present:
        shorter = {name: value for name, value in node.items() if name != key}
        if compiles(shorter):
            return shorter
    for key in present:
        node = {name: value for name, value in node.items() if name != key}
        if compiles(node):
            return node
    return {}


def _without_references(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_references(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _without_references(value) for key, value in node.items() if key != "$ref"}
