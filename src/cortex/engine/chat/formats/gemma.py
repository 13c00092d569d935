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
from cortex.engine.chat.splitting.typed_values import property_schema, types_of
from cortex.engine.grammar.lark import LarkBuilder
from cortex.wire.inference import JsonSchema, Tool

__all__ = ["FUNCTION_GEMMA", "GEMMA4"]

_MAX_DEPTH = 64
_PYTHON_CONSTANTS = {"True": True, "False": False, "None": None}
_MAX_GRAMMAR_DEPTH = 6


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
            quoted = yield from reader.take(self.quote)
            key, _ = yield from reader.name(self.quote if quoted else ":")
            if quoted:
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
        return f"{calls} {lark.literal(self.close)}"

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
        self._root = parameters
        self._options = {key: value for key, value in parameters.items() if key == "x-guidance"}
        self._any: str | None = None

    def object(self, schema: JsonSchema, depth: int) -> str:
        required = set(schema.get("required", []))
        members = [
            (f"{self._lark.literal(key + ':')} {self._value(self._inner(schema, key), depth)}", key in required)
            for key in schema.get("properties", {})
        ]
        return self._lark.rule(f'"{{" {self._lark.in_order(members, ",")} "}}"')

    def _inner(self, schema: JsonSchema, key: str) -> JsonSchema:
        definitions: JsonSchema = {name: self._root[name] for name in ("$defs", "definitions") if name in self._root}
        return property_schema({**definitions, **schema}, key)

    def _value(self, schema: JsonSchema, depth: int) -> str:
        lark, kinds = self._lark, types_of(schema)
        if kinds == {"string"}:
            return self._string(schema)
        if kinds and kinds.isdisjoint({"string", "array", "object"}):
            return lark.json({**schema, **self._options})
        if kinds == {"object"} and schema.get("properties") and depth < _MAX_GRAMMAR_DEPTH:
            return self.object(schema, depth + 1)
        items = schema.get("items")
        if kinds == {"array"} and isinstance(items, dict) and depth < _MAX_GRAMMAR_DEPTH:
            item = self._value(self._inner({"properties": {"item": items}}, "item"), depth + 1)
            return lark.rule(f'"[" ({item} ("," {item})*)? "]"')
        return self._anything()

    def _string(self, schema: JsonSchema) -> str:
        values = schema.get("enum", [schema["const"]] if "const" in schema else [])
        quote = self._lark.literal(self._quote)
        if not values:
            return f"{quote} {self._lark.until(self._quote)}"
        return f"{quote} {self._lark.any_of([self._lark.literal(str(value)) for value in values])} {quote}"

    def _anything(self) -> str:
        """Any value in this notation."""
        if self._any is None:
            lark = self._lark
            any_value = self._any = lark.declare()
            scalar = lark.regex(r"true|false|null|-?[0-9]{1,20}(\.[0-9]{1,20})?")
            member = f'{lark.regex("[A-Za-z_][A-Za-z0-9_]{0,80}")} ":" {any_value}'
            array = f'"[" ({any_value} ("," {any_value})*)? "]"'
            members = f'"{{" ({member} ("," {member})*)? "}}"'
            lark.define(any_value, f"{scalar} | {self._string({})} | {array} | {members}")
        return self._any


GEMMA4 = GemmaCalls("gemma4", open="<|tool_call>", close="<tool_call|>", quote='<|"|>')

FUNCTION_GEMMA = GemmaCalls(
    "function_gemma", open="<start_function_call>", close="<end_function_call>", quote="<escape>"
)
