"""Prepares JSON Schemas for llguidance, and finds the part of a schema that can't be compiled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from llguidance import LLMatcher

from cortex.errors import InvalidSchema
from cortex.wire.inference import JsonSchema

__all__ = ["checked_schema", "closed", "compile_error", "is_compilable"]

# One blank, or a new line with some indentation, or nothing: what models write. With unlimited blanks a small model
# may write blanks without end.
_BLANKS = r"(\n[ ]{0,24}| )?"
_DEFINITIONS = ("$defs", "definitions")
_ONE_SCHEMA = ("items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else")
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_PLAIN_MAPS = ("properties", "patternProperties")
_SCHEMA_MAPS = (*_PLAIN_MAPS, *_DEFINITIONS)
_COMPOSED = ("allOf", "anyOf", "oneOf", "$ref", "patternProperties", "unevaluatedProperties", "if")


def checked_schema(schema: JsonSchema, *, strict: bool, where: str, compact: bool = False) -> JsonSchema:
    """`schema` with the options that llguidance needs.

    `strict` refuses keywords that the grammar can't enforce; else they are left to the model. `compact`: JSON on one
    line with single blanks, as models write tool arguments, and without keys that the schema doesn't name. Raises
    InvalidSchema, naming the place below `where`, if it doesn't compile.
    """
    options = {"x-guidance": _options(strict=strict, compact=compact)}
    try:
        candidates = [{**closed(schema), **options}] if compact else []
        candidates.append({**schema, **options})
        errors = [(ready, compile_error(_json_grammar(ready))) for ready in candidates]
    except RecursionError:
        raise InvalidSchema(f"the schema at {where} is nested too deeply", param=where) from None
    for ready, error in errors:
        if error is None:
            return ready
    place, reason = _culprit(schema, strict, str(errors[-1][1]))
    raise InvalidSchema(f"the schema can't be enforced at {where}{place}: {reason}", param=where)


def is_compilable(schema: JsonSchema, *, strict: bool) -> bool:
    return compile_error(_json_grammar({**schema, "x-guidance": _options(strict=strict, compact=False)})) is None


@lru_cache(maxsize=1024)
def compile_error(lark: str) -> str | None:
    """Why a Lark grammar doesn't compile, in one line; None if it does.

    Cached: clients send the same tools with every turn.
    """
    error = LLMatcher.validate_grammar(LLMatcher.grammar_from_lark(lark))
    if not error or error.startswith("WARNING"):
        return None
    reason = error.split("\n   1 |", 1)[0].removeprefix("ERROR: ").split("failed to compile JSON schema: ")[-1]
    return " ".join(reason.split())


def closed(schema: JsonSchema) -> JsonSchema:
    """`schema` with additionalProperties = false in objects that list their properties and don't mention others.

    JSON Schema allows others there, which tool authors hardly ever mean. Composed schemas are unchanged: another
    branch may need what this one would forbid.
    """
    if '"allOf"' in json.dumps(schema):
        return dict(schema)
    result: JsonSchema = _closed(schema)
    return result


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = dict(node)
    for key in (*_ONE_SCHEMA, *_SCHEMA_LISTS):
        if key in result and not ("properties" in node and key in _SCHEMA_LISTS):
            result[key] = _closed(result[key])
    for key in _SCHEMA_MAPS:
        if isinstance(result.get(key), dict):
            result[key] = {name: _closed(value) for name, value in result[key].items()}
    if "properties" in node and "additionalProperties" not in node and not any(key in node for key in _COMPOSED):
        result["additionalProperties"] = False
    return result


def _options(*, strict: bool, compact: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"lenient": not strict}
    if compact:
        return options | {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return options | {"whitespace_pattern": _BLANKS}


def _json_grammar(schema: JsonSchema) -> str:
    return "start: %json " + json.dumps(schema) + "\n"


def _culprit(schema: JsonSchema, strict: bool, reason: str) -> tuple[str, str]:
    """The path of the innermost part that doesn't compile by itself, and the reason."""
    definitions = {key: schema[key] for key in _DEFINITIONS if key in schema}
    options = {"x-guidance": _options(strict=strict, compact=False)}
    path, parts = "", list(_parts(schema, (*_DEFINITIONS, *_PLAIN_MAPS)))
    while parts:
        name, part = parts.pop(0)
        if (inner := compile_error(_json_grammar(definitions | part | options))) is not None:
            path, reason = path + name, inner
            parts = list(_parts(part, _PLAIN_MAPS))
    return path, reason


def _parts(schema: JsonSchema, maps: Sequence[str]) -> Iterator[tuple[str, JsonSchema]]:
    """The schemas directly inside `schema`, those in `maps` first, with their paths."""
    for key in maps:
        children = schema.get(key)
        for name, part in children.items() if isinstance(children, dict) else ():
            if isinstance(part, dict):
                yield f".{key}.{name}", part
    for key in _ONE_SCHEMA:
        if isinstance(part := schema.get(key), dict):
            yield f".{key}", part
    for key in _SCHEMA_LISTS:
        children = schema.get(key)
        for number, part in enumerate(children if isinstance(children, list) else ()):
            if isinstance(part, dict):
                yield f".{key}[{number}]", part
