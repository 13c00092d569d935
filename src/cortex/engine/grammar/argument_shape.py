"""Which arguments a tool takes, read from any JSON Schema: for markup that writes each argument by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cortex.engine.grammar.references import part_of, resolved
from cortex.wire.inference import JsonSchema

__all__ = ["ArgumentShape", "argument_shape", "is_plain_object"]

_NOT_PLAIN = (
    *("anyOf", "oneOf", "not", "if", "patternProperties", "propertyNames", "minProperties"),
    *("maxProperties", "dependentRequired", "dependentSchemas", "unevaluatedProperties", "enum", "const"),
)


@dataclass(slots=True)
class ArgumentShape:
    """`properties`: each argument's schema, with the definitions that it may refer to. `required`: their names, all
    among the properties. `additional`: the schema of an argument with another name; None if there may be none."""

    properties: dict[str, JsonSchema] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    additional: JsonSchema | None = None


def argument_shape(schema: JsonSchema) -> ArgumentShape:
    """The arguments that `schema`, an object's, allows: all of them, and perhaps more.

    Branches (`anyOf`, `oneOf`) are united: each argument that one of them names is allowed, one that all of them
    require is required. An object that names its arguments, and says nothing of others, takes no others.
    """
    parts = _parts(schema, schema, {})
    shape = ArgumentShape({key: part_of(schema, part) for key, part in parts.properties.items()}, parts.required)
    for key in sorted(parts.required - parts.properties.keys()):
        shape.properties[key] = part_of(schema, parts.others if isinstance(parts.others, Mapping) else {})
    if parts.others is None:
        shape.additional = None if shape.properties else {}
    elif parts.others is not False:
        shape.additional = part_of(schema, parts.others)
    return shape


def is_plain_object(schema: Any, root: JsonSchema) -> bool:
    """Whether `properties`, `required` and `additionalProperties` are all that `schema`, or each part of its `allOf`,
    says of an object: its `argument_shape` is then all of it."""
    if not isinstance(schema, Mapping):
        return False
    schema = resolved(schema, root)
    if schema.get("type", "object") != "object" or any(key in schema for key in _NOT_PLAIN):
        return False
    parts = schema.get("allOf", ())
    return all(part is not schema and is_plain_object(part, root) for part in parts)


@dataclass(slots=True)
class _Parts:
    """`others`: `additionalProperties`; None where nothing is said of it."""

    properties: dict[str, Any] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    others: Any = None


def _parts(schema: Any, root: JsonSchema, known: dict[int, _Parts]) -> _Parts:
    """`known`: by the schemas' addresses, so that each is read once; one that is being read already adds nothing."""
    if not isinstance(schema, Mapping):
        return _Parts()
    if id(schema) not in known:
        known[id(schema)] = _Parts()
        known[id(schema)] = _read(schema, root, known)
    return known[id(schema)]


def _read(schema: Mapping[str, Any], root: JsonSchema, known: dict[int, _Parts]) -> _Parts:
    own = schema.get("properties")
    required = schema.get("required")
    found = _Parts(
        dict(own) if isinstance(own, Mapping) else {},
        {name for name in required if isinstance(name, str)} if isinstance(required, list) else set(),
        schema.get("additionalProperties"),
    )
    target = resolved(schema, root)
    for part in ([target] if target is not schema else []) + list(schema.get("allOf") or ()):
        _add(found, _parts(part, root, known))
    for key in ("anyOf", "oneOf"):
        if branches := [_parts(branch, root, known) for branch in schema.get(key) or () if _is_object(branch)]:
            _add(found, _united(branches))
    patterns = schema.get("patternProperties")
    if isinstance(patterns, Mapping) and patterns:
        others = [*patterns.values(), *([found.others] if isinstance(found.others, Mapping) else [])]
        found.others = {"anyOf": others} if found.others is not True else True
    return found


def _add(found: _Parts, more: _Parts) -> None:
    """Add what another schema for the same object says. It can't close the object to what this one names."""
    for key, part in more.properties.items():
        known = found.properties.get(key)
        found.properties[key] = part if known is None or known == part else {"allOf": [known, part]}
    found.required |= more.required
    if more.others is not None and found.others in (None, False):
        found.others = more.others


def _united(branches: Sequence[_Parts]) -> _Parts:
    """What an object of any of `branches` may have, and what an object of each must."""
    united = _Parts(required=set.intersection(*(branch.required for branch in branches)))
    for key in dict.fromkeys(key for branch in branches for key in branch.properties):
        parts: list[Any] = []
        for branch in branches:
            if key in branch.properties and branch.properties[key] not in parts:
                parts.append(branch.properties[key])
        united.properties[key] = parts[0] if len(parts) == 1 else {"anyOf": parts}
    for branch in branches:
        # A branch that says nothing allows anything.
        others = {} if branch == _Parts() else branch.others
        if others is not None and united.others in (None, False):
            united.others = others
    return united


def _is_object(branch: Any) -> bool:
    kind = branch.get("type", "object") if isinstance(branch, Mapping) else None
    return kind == "object" or (isinstance(kind, list) and "object" in kind)
