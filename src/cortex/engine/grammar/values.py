"""Grammars of JSON values whose objects may have their members in any order, and of the same values in Python's syntax.

llguidance's own JSON grammar wants members in the schema's order, JSON's constants and no `\\u` escapes. It is used for
the parts of a value where none of that matters: numbers, and strings with restrictions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cortex.engine.grammar.argument_shape import ArgumentShape, argument_shape, is_plain_object
from cortex.engine.grammar.lark import LarkBuilder, quoted
from cortex.engine.grammar.patterns import whole_pattern
from cortex.engine.grammar.references import DEFINITIONS, part_of, resolved, types_of
from cortex.wire.inference import JsonSchema

__all__ = ["ValueGrammar"]

_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # of surrogates
_UNICODE = r"\\u(?:[0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})"
_STRING = r'"(?:[^"\\\x00-\x1F\x7F]|\\["/\\bfnrt]|' + f'{_UNICODE}|{_PAIR})*"'
# Without the escapes that Python reads otherwise.
_PYTHON_STRING = "|".join(
    rf"{quote}(?:[^{quote}\\\x00-\x1F\x7F]|\\['\"\\bfnrt]|{_UNICODE})*{quote}" for quote in ('"', "'")
)
_KEY = r'"[^"\\\x00-\x1F\x7F]{1,128}"'
_PYTHON_KEY = r"'[^'\\\x00-\x1F\x7F]{1,128}'"
_NUMBER = r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?"
_MAX_BRANCHES = 16
_COMMA, _COLON = ", ?", ": ?"
_PYTHON_CONSTANTS = {"boolean": '"True" | "False"', "null": '"None"'}


class ValueGrammar:
    """Rules for values of the schemas inside `root`, each made once. `python`: also as Python writes them."""

    def __init__(self, lark: LarkBuilder, root: JsonSchema, *, python: bool = False) -> None:
        self._lark = lark
        self._root = root
        self._python = python
        self._options = {key: value for key, value in root.items() if key == "x-guidance"}
        self._lenient = bool(self._options.get("x-guidance", {}).get("lenient", True))
        # What llguidance leaves to the model, where the schema isn't strict.
        self._ignored = {"uniqueItems", "contains", "minContains", "maxContains", "format"} if self._lenient else set()
        self._known: dict[int, tuple[object, str]] = {}  # by the schemas' addresses, which are kept alive
        self._any: str | None = None

    def arguments(self) -> str:
        """The object of a call's arguments, for `root`."""
        return self.value(self._root)

    def value(self, schema: Any) -> str:
        """A value of `schema`."""
        if not isinstance(schema, Mapping) or not _said(schema):
            return self._anything()
        if _said(schema).keys() - {"type"} == {"$ref"}:
            schema = resolved(schema, self._root)
        if id(schema) not in self._known:
            name = self._lark.declare()
            self._known[id(schema)] = (schema, name)
            self._lark.define(name, self._expression(dict(schema)))
        return self._known[id(schema)][1]

    def _expression(self, schema: JsonSchema) -> str:
        kinds = types_of(part_of(self._root, schema))
        said = _said(schema)
        if said.keys() & {"enum", "const"}:
            return self._chosen(schema)
        for key in ("anyOf", *(("oneOf",) if self._lenient else ())):
            if key in said and (branches := self._branches(schema, key)):
                return " | ".join(branches)
        if len(kinds) > 1 and isinstance(schema.get("type"), list):
            return " | ".join(self.value({**schema, "type": kind}) for kind in sorted(kinds))
        match [*kinds]:
            case ["object"] if is_plain_object(schema, self._root):
                return self._object(argument_shape(part_of(self._root, schema)))
            case ["array"] if said.keys() - self._ignored <= {"type", "items", "minItems", "maxItems"}:
                return self._array(schema)
            case ["array"] if self._python and isinstance(schema.get("prefixItems"), list):
                return self._tuple(schema)
            case ["string"] if said.keys() - self._ignored == {"type"}:
                return self._string()
            case ["string"] if self._python:
                return f"{self._json(schema)} | {self._python_string(schema)}"
            case [("boolean" | "null") as kind] if self._python:
                return f"{self._json(schema)} | {_PYTHON_CONSTANTS[kind]}"
        return self._json(schema) if kinds or not self._python else self._anything()

    def _branches(self, schema: JsonSchema, key: str) -> list[str]:
        """The values of each branch of `anyOf` or `oneOf`, together with what is said around it; [] if that is more
        than a type, or than an object's members."""
        around, branches = _without(schema, key), schema[key]
        kind = around.get("type")
        if not isinstance(branches, list) or len(branches) > _MAX_BRANCHES:
            return []
        if _said(around).keys() - {"type"}:
            if not is_plain_object(around, self._root):
                return []
            return [self.value({"type": "object", "allOf": [around, branch]}) for branch in branches]
        found: list[str] = []
        for branch in branches:
            part = resolved(branch, self._root) if isinstance(branch, Mapping) else {}
            kinds = types_of(part_of(self._root, part))
            if kind is not None and not kinds:
                found.append(self.value({**part, "type": kind}))
            elif kind is None or not kinds.isdisjoint(kind if isinstance(kind, list) else [kind]):
                found.append(self.value(part))
        return list(dict.fromkeys(found))

    def _chosen(self, schema: JsonSchema) -> str:
        values = schema.get("enum", [schema.get("const")])
        if not self._python or not isinstance(values, list):
            return self._json(schema)
        spelled = [text for value in values for text in (json.dumps(value, ensure_ascii=False), repr(value))]
        return " | ".join(self._lark.literal(text) for text in dict.fromkeys(spelled))

    def _object(self, shape: ArgumentShape) -> str:
        lark, colon = self._lark, self._lark.regex(_COLON)
        members = [
            (lark.rule(f"{self._key(key)} {colon} {self.value(part)}"), key in shape.required)
            for key, part in shape.properties.items()
        ]
        more = ""
        if shape.additional is not None:
            more = lark.rule(f"{self._other_key([*shape.properties])} {colon} {self.value(shape.additional)}")
        # Blanks that models may write keep the first key from being forced, in tokens that aren't the model's own.
        blank = lark.regex(" ?")
        return f'"{{" {blank} {lark.any_order(members, lark.regex(_COMMA), more)} {blank} "}}"'

    def _key(self, key: str) -> str:
        written = [json.dumps(key, ensure_ascii=False), *([repr(key)] if self._python else [])]
        return f"({' | '.join(dict.fromkeys(map(self._lark.literal, written)))})"

    def _other_key(self, named: list[str]) -> str:
        """A key that isn't one of `named`."""
        spelled = [f"{quote}{quoted(name)}{quote}" for name in named for quote in ('"', "'")]
        pattern = f"{_KEY}|{_PYTHON_KEY}" if self._python else _KEY
        return self._lark.regex(pattern, unlike=["|".join(spelled)] if spelled else [])

    def _array(self, schema: JsonSchema) -> str:
        item, limits = self.value(schema.get("items")), (schema.get("minItems"), schema.get("maxItems"))
        return f'"[" {self._lark.repeated(item, self._lark.regex(_COMMA), *limits)} "]"'

    def _tuple(self, schema: JsonSchema) -> str:
        """A list whose first elements have schemas of their own."""
        comma, rest = self._lark.regex(_COMMA), schema.get("items", True)
        tail = "" if rest is False else f"({comma} {self.value(rest)})*"
        first, *others = schema["prefixItems"]
        for part in reversed(others):
            tail = self._lark.rule(f"({comma} {self.value(part)} {tail})?")
        return f'"[" ({self.value(first)} {tail})? "]"'

    def _python_string(self, schema: JsonSchema) -> str:
        """A text in single quotes, restricted by the schema's `pattern` or lengths; without escapes if it is."""
        pattern = whole_pattern(schema.get("pattern"))
        if pattern is not None:
            return self._lark.regex(f"'(?:{pattern})'", unlike=[r"'(?s:.*)['\\\x00-\x1F](?s:.*)'"])
        if {"minLength", "maxLength"} & schema.keys():
            limits = (
                f"{{{int(schema.get('minLength', 0))},{int(schema['maxLength']) if 'maxLength' in schema else ''}}}"
            )
            return self._lark.regex(rf"'[^'\\\x00-\x1F]{limits}'")
        return self._string()

    def _string(self) -> str:
        return self._lark.regex(_PYTHON_STRING if self._python else _STRING)

    def _anything(self) -> str:
        if self._any is None:
            lark, self._any = self._lark, self._lark.declare()
            comma, colon = lark.regex(_COMMA), lark.regex(_COLON)
            constants = '"true" | "false" | "null"' + (' | "True" | "False" | "None"' if self._python else "")
            member = f"{self._string()} {colon} {self._any}"
            containers = f'"[" ({self._any} ({comma} {self._any})*)? "]" | "{{" ({member} ({comma} {member})*)? "}}"'
            lark.define(self._any, f"{self._string()} | {lark.regex(_NUMBER)} | {constants} | {containers}")
        return self._any

    def _json(self, schema: JsonSchema) -> str:
        """The value by llguidance's own grammar, with the definitions that it refers to."""
        said = {key: value for key, value in schema.items() if key not in DEFINITIONS}
        needed: dict[str, Any] = {}
        waiting = [said]
        while waiting:
            for place, name in _references(waiting.pop()):
                definition = self._root.get(place, {}).get(name)
                if name not in needed.get(place, {}) and definition is not None:
                    needed.setdefault(place, {})[name] = definition
                    waiting.append(definition)
        return self._lark.json({**said, **needed, **self._options})


def _without(schema: JsonSchema, key: str) -> JsonSchema:
    return {name: value for name, value in schema.items() if name != key}


def _said(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` without definitions and options: what it says of a value."""
    return {key: value for key, value in schema.items() if key not in DEFINITIONS and key != "x-guidance"}


def _references(node: Any) -> Iterator[tuple[str, str]]:
    """The definitions that `node` refers to directly: (`$defs` or `definitions`, name)."""
    if isinstance(node, Mapping):
        found = re.match(r"#/(\$defs|definitions)/([^/]+)", str(node.get("$ref", "")))
        if found:
            yield found[1], found[2].replace("~1", "/").replace("~0", "~")
    for inner in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from _references(inner)
