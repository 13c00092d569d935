"""Prepares JSON Schemas for llguidance, and finds the part of a schema that can't be compiled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from llguidance import LLMatcher

from cortex.engine.grammar.references import (
    DEFINITIONS,
    ONE_SCHEMA,
    PLAIN_MAPS,
    SCHEMA_LISTS,
    SCHEMA_MAPS,
    self_contained,
)
from cortex.engine.grammar.schema_repair import loosened, readable
from cortex.errors import InvalidSchema
from cortex.wire.inference import JsonSchema

__all__ = ["checked_schema", "closed", "compile_error", "is_compilable"]

# One blank, or a new line with some indentation, or nothing: what models write. With unlimited blanks a small model
# may write blanks without end.
_BLANKS = r"(\n[ ]{0,24}| )?"
_MAX_REMEMBERED = 4096
_MAX_REASON = 500
_ERRORS: dict[bytes, str | None] = {}
_COMPOSED = ("allOf", "anyOf", "oneOf", "$ref", "patternProperties", "unevaluatedProperties", "if")


def checked_schema(schema: JsonSchema, *, strict: bool, where: str, compact: bool = False) -> JsonSchema:
    """`schema` with the options that llguidance needs.

    `strict` refuses what the grammar can't enforce; else that is left to the model, and all the rest is enforced.
    `compact`: JSON on one line with at most single blanks, as models write tool arguments, without keys that the schema
    doesn't name, and with references that `references.part_of` can resolve. Raises InvalidSchema, naming the place
    below `where`, if it doesn't compile.
    """
    try:
        ready = schema if strict else readable(schema)
        found, reason = _first_compilable(ready, strict=strict, compact=compact)
        if found is None and not strict:
            ready = loosened(ready, lambda node: is_compilable(node, strict=False))
            found, reason = _first_compilable(ready, strict=strict, compact=compact)
    except RecursionError:
        raise InvalidSchema(f"the schema at {where} is nested too deeply", param=where) from None
    if found is not None:
        return found
    place, reason = _culprit(schema, strict, reason)
    raise InvalidSchema(f"the schema can't be enforced at {where}{place}: {reason}", param=where)


def _first_compilable(schema: JsonSchema, *, strict: bool, compact: bool) -> tuple[JsonSchema | None, str]:
    """The closest form of `schema` that compiles; or None and why none does."""
    options = {"x-guidance": _options(strict=strict, compact=compact)}
    whole = self_contained(schema) if compact else schema
    reason = ""
    for candidate in ([closed(whole)] if compact else []) + [whole]:
        ready = {**candidate, **options}
        error = compile_error(_json_grammar(ready))
        if error is None:
            return ready, ""
        reason = error
    return None, reason


def is_compilable(schema: JsonSchema, *, strict: bool) -> bool:
    return compile_error(_json_grammar({**schema, "x-guidance": _options(strict=strict, compact=False)})) is None


def compile_error(lark: str) -> str | None:
    """Why a Lark grammar doesn't compile, in one line; None if it does.

    Kept by the text's hash (grammars may be megabytes), since clients send the same tools with every turn.
    """
    digest = sha256(lark.encode("utf-8", "surrogatepass")).digest()
    if digest not in _ERRORS:
        if len(_ERRORS) >= _MAX_REMEMBERED:
            _ERRORS.clear()
        _ERRORS[digest] = _compile_error(lark)
    return _ERRORS[digest]


def _compile_error(lark: str) -> str | None:
    error = LLMatcher.validate_grammar(LLMatcher.grammar_from_lark(lark))
    if not error or error.startswith("WARNING"):
        return None
    reason = error.split("\n   1 |", 1)[0].removeprefix("ERROR: ").split("failed to compile JSON schema: ")[-1]
    # The message repeats the pattern, which may be long, and marks a place in it.
    reason = re.sub(r"regex parse error:.*\nerror: ", "the pattern isn't supported: ", reason, flags=re.DOTALL)
    reason = re.sub(r" in regex /.*", " in the pattern", reason, flags=re.DOTALL)
    return " ".join(reason.split())[:_MAX_REASON]


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
    for key in (*ONE_SCHEMA, *SCHEMA_LISTS):
        if key in result and not ("properties" in node and key in SCHEMA_LISTS):
            result[key] = _closed(result[key])
    for key in SCHEMA_MAPS:
        if isinstance(result.get(key), dict):
            result[key] = {name: _closed(value) for name, value in result[key].items()}
    if "properties" in node and "additionalProperties" not in node and not any(key in node for key in _COMPOSED):
        result["additionalProperties"] = False
    return result


def _options(*, strict: bool, compact: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"lenient": not strict} | ({} if strict else {"coerce_one_of": True})
    if compact:
        return options | {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
    return options | {"whitespace_pattern": _BLANKS}


def _json_grammar(schema: JsonSchema) -> str:
    return "start: %json " + json.dumps(schema) + "\n"


def _culprit(schema: JsonSchema, strict: bool, reason: str) -> tuple[str, str]:
    """The path of the innermost part that doesn't compile by itself, and the reason."""
    definitions = {key: schema[key] for key in DEFINITIONS if key in schema}
    options = {"x-guidance": _options(strict=strict, compact=False)}
    path, parts = "", list(_parts(schema, (*DEFINITIONS, *PLAIN_MAPS)))
    while parts:
        name, part = parts.pop(0)
        if (inner := compile_error(_json_grammar(definitions | part | options))) is not None:
            path, reason = path + name, inner
            parts = list(_parts(part, PLAIN_MAPS))
    return path, reason


def _parts(schema: JsonSchema, maps: Sequence[str]) -> Iterator[tuple[str, JsonSchema]]:
    """The schemas directly inside `schema`, those in `maps` first, with their paths."""
    for key in maps:
        children = schema.get(key)
        for name, part in children.items() if isinstance(children, dict) else ():
            if isinstance(part, dict):
                yield f".{key}.{name}", part
    for key in ONE_SCHEMA:
        if isinstance(part := schema.get(key), dict):
            yield f".{key}", part
    for key in SCHEMA_LISTS:
        children = schema.get(key)
        for number, part in enumerate(children if isinstance(children, list) else ()):
            if isinstance(part, dict):
                yield f".{key}[{number}]", part
