"""References inside JSON Schemas: resolved, and rewritten so that a part of a schema can be used by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from cortex.wire.inference import JsonSchema

__all__ = [
    "DEFINITIONS",
    "ONE_SCHEMA",
    "PLAIN_MAPS",
    "SCHEMA_LISTS",
    "SCHEMA_MAPS",
    "finite_values",
    "part_of",
    "resolved",
    "self_contained",
    "target_of",
    "type_names",
    "type_of",
    "types_of",
]

DEFINITIONS = ("$defs", "definitions")
PLAIN_MAPS = ("properties", "patternProperties")
SCHEMA_MAPS = (*PLAIN_MAPS, *DEFINITIONS)
SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
ONE_SCHEMA = ("items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else")
"""The keywords whose values are schemas: by name, in a list, alone."""
_ROOT = "x-root"  # the definition that stands for the whole schema, in what `self_contained` returns
_MAX_REFERENCES = 16
_TYPE_NAMES = {
    "int": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "str": "string",
    "dict": "object",
    "list": "array",
    "tuple": "array",
    "none": "null",
}
_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_TYPE_OF: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
    (type(None), "null"),
)


def target_of(reference: object, root: JsonSchema) -> Any:
    """What a local reference (`#`, `#/a/b`) points to inside `root`; None for any other, and where nothing is."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    target: Any = root
    for step in reference[2:].split("/") if reference != "#" else ():
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and name.isdecimal() and int(name) < len(target):
            target = target[int(name)]
        else:
            target = target.get(name) if isinstance(target, Mapping) else None
    return target


def resolved(schema: Mapping[str, Any], root: JsonSchema) -> Mapping[str, Any]:
    """`schema`, or what its local `$ref` points to, up to 16 references deep."""
    for _ in range(_MAX_REFERENCES):
        target = target_of(schema.get("$ref"), root)
        if not isinstance(target, Mapping):
            break
        schema = target
    return schema


def self_contained(root: JsonSchema) -> JsonSchema:
    """`root` with references that its definitions alone answer: `part_of` can cut parts out of it.

    A reference is relative to the whole schema, so `#` and `#/properties/home` mean something else inside a part.
    """
    if not _refers_to_root(root):
        return dict(root)
    rewritten: JsonSchema = _rewritten(root)
    whole = {key: value for key, value in rewritten.items() if key not in DEFINITIONS}
    definitions = rewritten.get("$defs")
    return {**rewritten, "$defs": {**(definitions if isinstance(definitions, Mapping) else {}), _ROOT: whole}}


def part_of(root: JsonSchema, part: object) -> JsonSchema:
    """`part`, a schema inside `root` (see `self_contained`), with the definitions that it may refer to."""
    if not isinstance(part, Mapping):
        return {}
    return {**{name: root[name] for name in DEFINITIONS if name in root}, **part}


def types_of(schema: JsonSchema) -> set[str]:
    """The JSON types that a value of `schema` may have; empty if the schema doesn't restrict them."""
    return _types(schema, schema, {}) or set()


def finite_values(schema: JsonSchema, depth: int = 0) -> list[Any] | None:
    """All values that `schema` allows, if it lists them; None if it doesn't."""
    schema = part_of(schema, resolved(schema, schema))
    if isinstance(values := schema.get("enum", [schema["const"]] if "const" in schema else None), list) and values:
        return values
    if type_names(schema.get("type")) == ["null"]:
        return [None]
    branches = schema.get("anyOf", schema.get("oneOf"))
    if not isinstance(branches, list) or not branches or depth > 4:
        return None
    found = [finite_values(part_of(schema, branch), depth + 1) for branch in branches]
    return None if None in found else [value for values in found for value in values or ()]


def type_names(declared: object) -> list[str] | None:
    """A `type` keyword's value as JSON Schema's names; None if it says nothing (`any`, a number …).

    Clients also send `STRING` (Google's APIs) and names of Python's types.
    """
    names = [declared] if isinstance(declared, str) else declared
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    known = [_TYPE_NAMES.get(name.lower(), name.lower()) for name in names]
    return list(dict.fromkeys(known)) if all(name in _TYPES for name in known) else None


def _refers_to_root(node: Any) -> bool:
    if isinstance(node, list):
        return any(map(_refers_to_root, node))
    if not isinstance(node, Mapping):
        return False
    return _is_outside_definitions(node.get("$ref")) or any(map(_refers_to_root, node.values()))


def _is_outside_definitions(reference: object) -> bool:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return False
    return not reference.startswith(tuple(f"#/{name}/" for name in DEFINITIONS))


def _rewritten(node: Any) -> Any:
    if isinstance(node, list):
        return [_rewritten(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    result = {key: _rewritten(value) for key, value in node.items()}
    if _is_outside_definitions(reference := node.get("$ref")):
        assert isinstance(reference, str)
        result["$ref"] = f"#/$defs/{_ROOT}{reference[1:]}"
    return result


def _types(schema: Any, root: JsonSchema, known: dict[int, set[str] | None]) -> set[str] | None:
    """The types, empty if there are no restrictions; None for a schema that is being read already (a circle, which
    adds nothing). `known`: by the schemas' addresses, so that each is read once."""
    if not isinstance(schema, Mapping):
        return set()
    schema = resolved(schema, root)
    if id(schema) not in known:
        known[id(schema)] = None
        known[id(schema)] = _declared_types(schema, root, known)
    return known[id(schema)]


def _declared_types(schema: Mapping[str, Any], root: JsonSchema, known: dict[int, set[str] | None]) -> set[str]:
    if (names := type_names(schema.get("type"))) is not None:
        return {*names}
    for key in ("anyOf", "oneOf"):
        if isinstance(branches := schema.get(key), list):
            kinds = [found for branch in branches if (found := _types(branch, root, known)) is not None]
            return set().union(*kinds) if all(kinds) else set()
    if isinstance(parts := schema.get("allOf"), list):
        narrowed = [found for part in parts if (found := _types(part, root, known))]
        return set.intersection(*narrowed) if narrowed else set()
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return {type_of(value) for value in values} if isinstance(values, list) else set()


def type_of(value: Any) -> str:
    """The JSON type of a Python value."""
    if isinstance(value, float) and value.is_integer():
        return "number"
    return next((name for kind, name in _TYPE_OF if isinstance(value, kind)), "")
