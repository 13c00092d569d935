"""Gemma 4: `<|tool_call>call:f{k:<|"|>v<|"|>,n:42}<tool_call|>`: strings between tokens, keys without quotes.

Source: google-gemma-4-31B-it.jinja in llama.cpp's models/templates. FunctionGemma's own template has the same with
other markers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cortex.engine.chat.formats.base import Evidence, Trigger, contains_all
from cortex.engine.chat.splitting.reader import Malformed, Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.chat.splitting.typed_values import item_schema
from cortex.engine.grammar.argument_shape import argument_shape
from cortex.engine.grammar.lark import LarkBuilder, quoted
from cortex.engine.grammar.patterns import whole_pattern
from cortex.engine.grammar.references import finite_values, part_of, resolved, types_of
from cortex.wire.inference import JsonSchema, Tool

__all__ = ["FUNCTION_GEMMA", "GEMMA4"]

_MAX_DEPTH = 64
_PYTHON_CONSTANTS = {"True": True, "False": False, "None": None}
_MAX_GRAMMAR_DEPTH = 6
_COMMA = '","'
_KEY = "[^\\s:{}\\[\\],\"'<>]{1,80}"
_SCALARS: dict[str, tuple[str, ...]] = {
    "integer": (),
    "number": (),
    "boolean": ('"True"', '"False"'),
    "null": ('"None"',),
}
"""JSON's scalars, and what Python writes instead, as this family's template does."""


@dataclass(frozen=True, slots=True)
class GemmaCalls:
    """`open` call:name{…} `close`, with `quote` on both sides of each string."""

    name: str
    open: str
    close: str
    quote: str
    holds_several: bool = False
    frames: bool = False
    wrappers: tuple[tuple[str, str], ...] = ()

    @property
    def triggers(self) -> Sequence[Trigger]:
        return (Trigger(self.open),)

    @property
    def special_tokens(self) -> Sequence[str]:
        return (self.open, self.close, self.quote)

    def matches(self, evidence: Evidence) -> str | None:
        return contains_all(evidence, (self.open, self.quote))

    def parse(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        yield from reader.expect(self.open)
        yield from reader.skip_whitespace()
        yield from reader.expect("call:")
        name, _ = yield from reader.name("{")
        emitter.begin(name)
        yield from self._object(reader, emitter, 0)
        emitter.end()
        yield from reader.skip_whitespace()
        yield from reader.take(self.close)

    def _object(self, reader: Reader, emitter: ToolCallEmitter, depth: int) -> Reading[None]:
        """An object's members after its opening brace."""
        emitter.arguments("{")
        yield from reader.skip_whitespace()
        more = (yield from reader.take("}")) is None
        while more:
            yield from reader.skip_whitespace()
            is_quoted = yield from reader.take(self.quote)
            key, _ = yield from reader.name(self.quote if is_quoted else ":")
            if is_quoted:
                yield from reader.expect(":")
            emitter.arguments(json.dumps(reader.markers.decode(key), ensure_ascii=False) + ": ")
            more = yield from self._member(reader, emitter, depth, "}")
        emitter.arguments("}")

    def _array(self, reader: Reader, emitter: ToolCallEmitter, depth: int) -> Reading[None]:
        """A list's elements after its opening bracket."""
        emitter.arguments("[")
        yield from reader.skip_whitespace()
        more = (yield from reader.take("]")) is None
        while more:
            more = yield from self._member(reader, emitter, depth, "]")
        emitter.arguments("]")

    def _member(self, reader: Reader, emitter: ToolCallEmitter, depth: int, closer: str) -> Reading[bool]:
        """A value and the comma or `closer` after it; whether it was a comma."""
        yield from reader.skip_whitespace()
        scalar_end = yield from self._value(reader, emitter, depth, closer)
        if not scalar_end:
            yield from reader.skip_whitespace()
            scalar_end = yield from reader.expect(",", closer)
        if scalar_end == ",":
            emitter.arguments(", ")
        return scalar_end == ","

    def _value(self, reader: Reader, emitter: ToolCallEmitter, depth: int, closer: str) -> Reading[str]:
        """Pass one value on; the comma or `closer` that ended it, "" if that isn't read yet."""
        if depth > _MAX_DEPTH:
            raise Malformed
        kind = yield from reader.take(self.quote, "{", "[")
        if kind == self.quote:
            yield from self._string(reader, emitter)
        elif kind == "{":
            yield from self._object(reader, emitter, depth + 1)
        elif kind == "[":
            yield from self._array(reader, emitter, depth + 1)
        else:
            text, end = yield from reader.until(",", closer)
            emitter.arguments(json.dumps(_scalar(text.strip()), ensure_ascii=False))
            return end
        return ""

    def _string(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        emitter.arguments('"')
        while True:
            part, stop = yield from reader.part(self.quote)
            emitter.arguments(json.dumps(part, ensure_ascii=False)[1:-1])
            if stop is not None:
                break
        emitter.arguments('"')

    # ---- the grammar

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        del parallel  # a block holds one call
        calls = lark.any_of([self._call_grammar(lark, tool) for tool in tools])
        return f"{calls} ({lark.literal(self.close)})?"

    def _call_grammar(self, lark: LarkBuilder, tool: Tool) -> str:
        members = _Values(lark, tool.parameters, self.quote).object(tool.parameters, 0)
        return lark.rule(f"{lark.literal('call:' + tool.name)} {members}")


def _scalar(text: str) -> Any:
    if text in _PYTHON_CONSTANTS:
        return _PYTHON_CONSTANTS[text]
    try:
        return json.loads(text)
    except ValueError:
        raise Malformed from None


class _Values:
    """Grammar of values: JSON's numbers and constants, strings between their tokens, keys without quotes."""

    def __init__(self, lark: LarkBuilder, parameters: JsonSchema, quote: str) -> None:
        self._lark = lark
        self._quote = quote
        self._options = {key: value for key, value in parameters.items() if key == "x-guidance"}
        self._any: str | None = None

    def object(self, schema: JsonSchema, depth: int) -> str:
        """An object's members in any order."""
        shape = argument_shape(schema)
        members = [
            (self._lark.rule(f"{self._key(key)} {self._value(part, depth)}"), key in shape.required)
            for key, part in shape.properties.items()
        ]
        more = ""
        if shape.additional is not None:
            named = ["|".join(map(quoted, shape.properties))] if shape.properties else []
            more = self._lark.rule(f'{self._lark.regex(_KEY, unlike=named)} ":" {self._value(shape.additional, depth)}')
        return self._lark.rule(f'"{{" {self._lark.any_order(members, _COMMA, more)} "}}"')

    def _key(self, key: str) -> str:
        """A key and its colon; in quotes too, as the parser needs one that contains a colon."""
        lark = self._lark
        plain = lark.literal(key + ":")
        return plain if ":" not in key else f"({plain} | {lark.literal(self._quote + key + self._quote + ':')})"

    def _value(self, schema: JsonSchema, depth: int) -> str:
        lark, kinds = self._lark, types_of(schema)
        schema = part_of(schema, resolved(schema, schema))
        if (values := finite_values(schema)) is not None:
            return self._chosen(values)
        branches = schema.get("anyOf", schema.get("oneOf"))
        if isinstance(branches, list) and branches and not schema.keys() & {"properties", "items"} and depth < 4:
            return lark.any_of([self._value(part_of(schema, branch), depth + 1) for branch in branches])
        if len(kinds) > 1 and depth < _MAX_GRAMMAR_DEPTH and isinstance(schema.get("type"), list):
            return lark.any_of([self._value({**schema, "type": kind}, depth + 1) for kind in sorted(kinds)])
        match [*kinds]:
            case ["string"]:
                return self._string(schema)
            case ["object"] if depth < _MAX_GRAMMAR_DEPTH:
                return self.object(schema, depth + 1)
            case ["array"] if depth < _MAX_GRAMMAR_DEPTH:
                item = self._value(item_schema(schema), depth + 1)
                limits = schema.get("minItems"), schema.get("maxItems")
                return lark.rule(f'"[" {lark.repeated(item, _COMMA, *limits)} "]"')
            case [kind] if kind in _SCALARS:
                return lark.any_of([lark.json({**schema, **self._options}), *_SCALARS[kind]])
        return self._anything()

    def _chosen(self, values: Sequence[Any]) -> str:
        lark, written = self._lark, list[str]()
        for value in values:
            if isinstance(value, str):
                written.append(lark.literal(self._quote + value + self._quote))
            elif isinstance(value, dict | list):
                return self._anything()
            else:
                written += [lark.literal(json.dumps(value)), lark.literal(repr(value))]
        return lark.any_of(list(dict.fromkeys(written)))

    def _string(self, schema: JsonSchema) -> str:
        quote = self._lark.literal(self._quote)
        pattern = whole_pattern(schema.get("pattern"))
        if pattern is not None:
            return f"{quote} {self._lark.pattern_until(pattern, self._quote)}"
        return f"{quote} {self._lark.until(self._quote)}"

    def _anything(self) -> str:
        """Any value in this notation."""
        if self._any is None:
            lark = self._lark
            any_value = self._any = lark.declare()
            constants = "".join(f"|{text}" for text in _PYTHON_CONSTANTS)
            scalar = lark.regex(
                rf"true|false|null{constants}|-?(0|[1-9][0-9]{{0,19}})(\.[0-9]{{1,20}})?([eE][+-]?[0-9]{{1,3}})?"
            )
            member = f'{lark.regex(_KEY)} ":" {any_value}'
            array = f'"[" ({any_value} ({_COMMA} {any_value})*)? "]"'
            members = f'"{{" ({member} ({_COMMA} {member})*)? "}}"'
            lark.define(any_value, f"{scalar} | {self._string({})} | {array} | {members}")
        return self._any


GEMMA4 = GemmaCalls("gemma4", open="<|tool_call>", close="<tool_call|>", quote='<|"|>')

FUNCTION_GEMMA = GemmaCalls(
    "function_gemma", open="<start_function_call>", close="<end_function_call>", quote="<escape>"
)
