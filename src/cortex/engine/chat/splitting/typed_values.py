"""Raw text values from markup to JSON, typed by the tool's JSON Schema."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

from cortex.engine.grammar.argument_shape import argument_shape
from cortex.engine.grammar.references import part_of, resolved, self_contained, type_of, types_of
from cortex.engine.grammar.schema_repair import readable
from cortex.wire.inference import JsonSchema

__all__ = ["item_schema", "json_text", "json_value", "nested_tags_value", "property_schema"]

_MAX_DEPTH = 64
_EXACT_INTEGER = 2**53  # larger ones change in clients that keep numbers as doubles
_SURROGATES = re.compile("[\ud800-\udfff]")
_EMPTY = {"null": "null", "object": "{}", "array": "[]"}
"""What an empty value means where it may not be a string."""


def property_schema(parameters: JsonSchema, key: str) -> JsonSchema:
    """The schema of one argument, with the definitions that it may refer to; {} if there is none."""
    shape = argument_shape(self_contained(readable(parameters)))
    return shape.properties.get(key, shape.additional or {})


def item_schema(schema: JsonSchema) -> JsonSchema:
    """The schema of a list's elements, with the definitions that it may refer to; {} if there is none."""
    return part_of(schema, resolved(schema, schema).get("items"))


def json_value(raw: str, types: set[str]) -> str:
    """JSON text for `raw` as one of `types`; a string where it can't be read as any other allowed type.

    Where a string is allowed, or anything (`types` is empty), a text that another type would change stays a string:
    `1.10`, `1_000`, `(1, 2)`.
    """
    if not raw.strip() and types and "string" not in types:
        return next((empty for kind, empty in _EMPTY.items() if kind in types), '""')
    text = raw.strip()
    value = _value_of(text, types) if types != {"string"} else None
    return json.dumps(raw, ensure_ascii=False) if value is None else value


def _value_of(text: str, types: set[str]) -> str | None:
    """JSON text for `text` as one of `types` other than a string, None if it is none of them."""
    keeps_text = not types or "string" in types
    found = _read(json.loads, text)
    if _is_allowed(found, types):
        # Valid JSON stays as it is written: digits of a number inside a list too.
        return None if keeps_text and not _is_exact(text, found) else text
    if text.lower() in ("true", "false") and (not types or "boolean" in types):
        return text.lower()
    found = _read(ast.literal_eval, text)
    if not _is_allowed(found, types) or (keeps_text and not _is_structure_or_declared(found, types)):
        return None
    return json_text(found)


def json_text(value: Any) -> str:
    """`value` as JSON; a lone surrogate (from an escape) in it stays an escape, since UTF-8 has none."""
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if _SURROGATES.search(text) else text


def _read(reads: Callable[[str], Any], text: str) -> Any:
    """What `reads` makes of `text`, a string (which no caller wants) if it can't read it, or if JSON has no such
    value."""
    try:
        value = reads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text
    return value


def _is_allowed(value: Any, types: set[str]) -> bool:
    kind = type_of(value)
    return kind not in ("string", "") and (not types or kind in types or (kind == "integer" and "number" in types))


def _is_exact(text: str, value: Any) -> bool:
    """Whether a number says all that `text` does."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return text == json.dumps(value) and abs(value) <= _EXACT_INTEGER


def _is_structure_or_declared(value: Any, types: set[str]) -> bool:
    """Whether a Python literal is meant as such: a list or object, or the `None` of a type that may be null."""
    return isinstance(value, list | dict) or (value is None and "null" in types)


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
