"""Parser and grammar of calls with one tag per argument and raw values in them: Qwen3-Coder, MiniMax M2, GLM, DSML …"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cortex.engine.chat.formats.base import Evidence, Trigger, contains_all
from cortex.engine.chat.splitting.markers import special_tokens_in
from cortex.engine.chat.splitting.reader import Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.chat.splitting.typed_values import item_schema, json_value, nested_tags_value, property_schema
from cortex.engine.grammar.argument_shape import argument_shape
from cortex.engine.grammar.lark import LarkBuilder, quoted
from cortex.engine.grammar.patterns import whole_pattern
from cortex.engine.grammar.references import types_of
from cortex.engine.grammar.values import ValueGrammar
from cortex.wire.inference import JsonSchema, Tool

__all__ = ["TaggedCalls"]

_MAX_NESTED = 6  # tags in tags; deeper ones are free
_QUOTE = json.dumps('"')
_OTHER_KEY = "[^{end}<>\\s\"'=]{{1,64}}"
_ATTRIBUTE_TYPES = {"true": {"string"}, "false": {"array", "boolean", "integer", "null", "number", "object"}}


@dataclass(frozen=True, slots=True)
class TaggedCalls:
    """A call is `call_open` name `name_end` argument* `call_close`, an argument `param_open` key `key_end` value.

    `section_*` surround all calls of a block ("" = none). `name_end` "" means that the name ends at the first argument
    or at the call's end. `head_end` ends further attributes after the name, `attributes_end` those after the key,
    which give the value's type (`string="true|false"` or `type="…"`). `value_open` separates key and value.
    `line_values`: values are on lines of their own; one line break on either side isn't part of them. `nested_prefix`:
    values may be nested tags, each with this before it (`typed_values.nested_tags_value`). `evidence`: strings that
    the template must all contain.
    """

    name: str
    call_open: str
    name_end: str
    param_open: str
    key_end: str
    value_close: str  # "{key}" in it is the argument's key
    call_close: str
    section_open: str = ""
    section_close: str = ""
    value_open: str = ""
    head_end: str = ""
    attributes_end: str = ""
    line_values: bool = False
    lenient_start: bool = False  # models may leave out `section_open`
    cdata: bool = False  # values may be in `<![CDATA[…]]>`
    typed_attribute: bool = False  # `type="…"` instead of `string="true|false"`
    numbered_head: bool = False  # ` index="1"` after the name
    holds_several: bool = False
    nested_prefix: str = ""
    evidence: tuple[str, ...] = ()
    wrappers: tuple[tuple[str, str], ...] = ()
    frames: bool = False

    @property
    def triggers(self) -> Sequence[Trigger]:
        if not self.section_open:
            return (Trigger(self.call_open),)
        return (Trigger(self.section_open), *([Trigger(self.call_open)] if self.lenient_start else []))

    @property
    def special_tokens(self) -> Sequence[str]:
        tags = (self.section_open, self.section_close, self.call_open, self.call_close, self.param_open, self.key_end)
        values = (self.value_open, self.value_close, self.head_end, self.attributes_end)
        return [*filter(None, (self.nested_prefix,)), *special_tokens_in(*tags, *values)]

    def matches(self, evidence: Evidence) -> str | None:
        return contains_all(evidence, self.evidence)

    def parse(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        in_section = bool(self.section_open) and (yield from reader.take(self.section_open)) is not None
        yield from reader.skip_whitespace()
        yield from reader.expect(self.call_open)
        while True:
            yield from self._call(reader, emitter)
            if not (self.section_open or self.lenient_start):
                return
            yield from reader.skip_whitespace()
            if (yield from reader.take(*filter(None, (self.section_close,)))) is not None:
                return
            if not in_section or (yield from reader.take(self.call_open)) is None:
                return

    def _call(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        """One call after its `call_open`."""
        stops = (self.name_end,) if self.name_end else (self.param_open, self.call_close)
        name, stop = yield from reader.name(*stops)
        if self.head_end:
            yield from reader.until(self.head_end, limit=256)
        emitter.begin(name.strip('"'))
        emitter.arguments("{")
        tag = stop if not self.name_end else (yield from self._next_tag(reader))
        count = 0
        while tag != self.call_close:
            yield from self._argument(reader, emitter, emitter.tools[name.strip('"')], first=count == 0)
            tag = yield from self._next_tag(reader)
            count += 1
        emitter.arguments("}")
        emitter.end()

    def _next_tag(self, reader: Reader) -> Reading[str]:
        yield from reader.skip_whitespace()
        return (yield from reader.expect(self.param_open, self.call_close))

    def _argument(self, reader: Reader, emitter: ToolCallEmitter, tool: Tool, *, first: bool) -> Reading[None]:
        key = yield from self._key(reader, tool)
        schema = property_schema(tool.parameters, key)
        types = types_of(schema)
        if self.attributes_end:
            attributes, _ = yield from reader.until(self.attributes_end, limit=256)
            types = _declared_types(attributes) or types
        if self.value_open:
            yield from reader.skip_whitespace()
            yield from reader.expect(self.value_open)
        emitter.arguments(("" if first else ", ") + json.dumps(reader.markers.decode(key), ensure_ascii=False) + ": ")
        close = self.value_close.replace("{key}", reader.markers.decode(key))
        if types == {"string"} and not self.cdata:
            string = _StringStream(emitter, line_value=self.line_values)
            yield from self._value(reader, close, string.add)
            string.end()
            return
        parts: list[str] = []
        yield from self._value(reader, close, parts.append)
        emitter.arguments(self._json(self._inside(reader.markers.decode("".join(parts))), types, schema))

    def _key(self, reader: Reader, tool: Tool) -> Reading[str]:
        """An argument's name and what ends it. One of the tool's own may contain that end."""
        odd = [key for key in argument_shape(tool.parameters).properties if self.key_end in key]
        if odd and (taken := (yield from reader.take(*(key + self.key_end for key in odd)))) is not None:
            return taken.removesuffix(self.key_end)
        key, _ = yield from reader.name(self.key_end)
        return key

    def _inside(self, raw: str) -> str:
        """A value without the line breaks or the CDATA section around it."""
        if self.line_values and raw.startswith("\n"):
            return raw[1:].removesuffix("\n")
        if self.cdata and raw.startswith("<![CDATA[") and raw.endswith("]]>"):
            return raw[len("<![CDATA[") : -len("]]>")]
        return raw

    def _json(self, raw: str, types: set[str], schema: JsonSchema) -> str:
        """JSON text for a raw value: of one of `types`, or of `schema` if it is nested tags."""
        if self.nested_prefix and self.nested_prefix in raw:
            return nested_tags_value(raw, schema, self.nested_prefix)
        return json_value(raw, types)

    def _value(self, reader: Reader, close: str, add: Callable[[str], None]) -> Reading[None]:
        """Read a value and its closing tag, passing pieces to `add` as they arrive.

        The value ends at a closing tag only where another argument or the call's end follows: a model may edit a file
        that contains its own markup. Where values are nested tags, it ends at the tag that closes the outermost one.
        """
        opener = close.replace("</", "<") if self.nested_prefix else ""
        depth = 1
        while True:
            part, stop = yield from reader.part(close, *filter(None, (opener,)))
            add(part)
            if stop is None:
                continue
            if self.nested_prefix:
                depth += 1 if stop == opener else -1
                if not depth:
                    return
            elif (yield from reader.follows(self.param_open, self.call_close)):
                return
            add(reader.markers.encode(stop))

    # ---- the grammar

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        calls = [self._call_grammar(lark, tool) for tool in tools]
        if not self.section_open:
            return lark.any_of(calls)
        line, close = lark.whitespace(), lark.literal(self.section_close)
        one = lark.rule(f"{line} {lark.literal(self.call_open)} {lark.any_of(calls)}")
        many = f"{one} ({one}){{0,15}}" if parallel and self.holds_several else one
        return f"{many} ({line} {close})?"

    def _call_grammar(self, lark: LarkBuilder, tool: Tool) -> str:
        """A call after its `call_open`, with its arguments in any order."""
        shape = argument_shape(tool.parameters)
        values = ValueGrammar(lark, tool.parameters, python=True)
        line = lark.whitespace()
        head = lark.literal(tool.name + (self.name_end if self.param_open != self.name_end else ""))
        if self.head_end:
            number = (
                f"{json.dumps(' index=' + chr(34))} {lark.regex('[0-9]{1,2}')} {_QUOTE}" if self.numbered_head else ""
            )
            head += f" {number} {lark.literal(self.head_end)}"
        members = [
            (lark.rule(f"{line} {self._argument_grammar(lark, values, key, schema)}"), key in shape.required)
            for key, schema in shape.properties.items()
        ]
        more = ""
        if shape.additional is not None and self.nested_prefix:
            more = self._any_nested_argument(lark)
        elif shape.additional is not None:
            more = lark.rule(
                f"{line} {self._argument_grammar(lark, values, None, shape.additional, [*shape.properties])}"
            )
        arguments = lark.any_order(members, more=more)
        return lark.rule(f"{head} {arguments} {line} {lark.literal(self.call_close)}")

    def _argument_grammar(
        self, lark: LarkBuilder, values: ValueGrammar, key: str | None, schema: JsonSchema, named: Sequence[str] = ()
    ) -> str:
        """One argument; `key` None: any but `named`."""
        head = f"{lark.literal(self.param_open)} {self._key_grammar(lark, key, named)}"
        opening = f"{lark.whitespace()} {lark.literal(self.value_open)}" if self.value_open else ""
        close = self.value_close.replace("{key}", key or "")
        kinds = types_of(schema)
        if self.attributes_end:
            typed = [
                f"{lark.literal(attribute + self.attributes_end)} {self._value_grammar(lark, values, part, close)}"
                for attribute, part in self._attributes(schema, kinds)
            ]
            return f"{head} {opening} {lark.any_of(typed)}"
        return f"{head} {opening} {self._value_grammar(lark, values, schema, close)}"

    def _key_grammar(self, lark: LarkBuilder, key: str | None, named: Sequence[str]) -> str:
        if key is not None:
            return lark.literal(key + self.key_end)
        pattern = _OTHER_KEY.format(end=quoted(self.key_end[0]))
        unlike = ["|".join(map(quoted, named))] if named else []
        return f"{lark.regex(pattern, unlike=unlike)} {lark.literal(self.key_end)}"

    def _attributes(self, schema: JsonSchema, kinds: set[str]) -> list[tuple[str, JsonSchema]]:
        """What the tag may say of the value's type, each with the schema of such a value."""
        found: list[tuple[str, JsonSchema]] = []
        if not kinds or "string" in kinds:
            found.append((' type="string"' if self.typed_attribute else ' string="true"', schema))
        others = sorted(kinds - {"string"}) if kinds else ["array", "boolean", "null", "number", "object"]
        for kind in others:
            part = schema if kinds == {kind} else {**schema, "type": kind}
            if not self.typed_attribute:
                found.append((' string="false"', part))
                continue
            names = (kind, "number") if kind == "integer" else (kind,)
            found += [(f' type="{name}"', part) for name in names]
        return found

    def _value_grammar(self, lark: LarkBuilder, values: ValueGrammar, schema: JsonSchema, close: str) -> str:
        """A value and its closing tag. What may be a string is written raw: quotes would be part of the string."""
        kinds = types_of(schema)
        edge = "\n" if self.line_values else ""
        if self.nested_prefix and (not kinds or not kinds.isdisjoint({"object", "array"})):
            end = f"{self._nested_ends(lark)[1]} {lark.literal(close.removeprefix(self.nested_prefix + '</'))}"
            return f"{self._nested_grammar(lark, schema)} {end}"
        if kinds and "string" not in kinds:
            return f"{lark.literal(edge) if edge else ''} {values.value(schema)} {lark.literal(edge + close)}"
        return f"{lark.literal(edge) if edge else ''} {self._raw_grammar(lark, schema, edge, close)}"

    def _nested_grammar(self, lark: LarkBuilder, schema: JsonSchema, depth: int = 0) -> str:
        """A value as nested tags (`typed_values.nested_tags_value`)."""
        kinds = types_of(schema)
        opener, closer = self._nested_ends(lark)

        def tag(name: str, inner: JsonSchema) -> str:
            value, rest = self._nested_grammar(lark, inner, depth + 1), lark.literal(f"{name}>")
            return lark.rule(f"{opener} {rest} {value} {closer} {rest}")

        if kinds == {"array"} and depth < _MAX_NESTED:
            return f"({tag('item', item_schema(schema))})*"
        if kinds == {"object"} and depth < _MAX_NESTED and (shape := argument_shape(schema)).properties:
            # The template leaves out members that are null.
            return lark.any_order(
                [
                    (tag(key, inner), key in shape.required and "null" not in types_of(inner))
                    for key, inner in shape.properties.items()
                ]
            )
        if kinds and kinds.isdisjoint({"array", "object", "string"}):
            scalar = lark.json({**schema, "x-guidance": {"lenient": True}})
            return f"({scalar})?" if "null" in kinds else scalar
        return self._any_nested(lark)

    def _any_nested(self, lark: LarkBuilder) -> str:
        """Any text or tags."""
        (opener, closer), name = self._nested_ends(lark), lark.regex("[^<>/\\s]{1,64}")
        is_token = lark.is_token(self.nested_prefix)
        text = lark.any_text() if is_token else lark.regex(f"[^{quoted(self.nested_prefix[0])}]*")
        inside = lark.declare()
        lark.define(inside, f'{text} | ({opener} {name} ">" {inside} {closer} {name} ">")+')
        return inside

    def _any_nested_argument(self, lark: LarkBuilder) -> str:
        (opener, closer), name = self._nested_ends(lark), lark.regex("[^<>/\\s]{1,64}")
        return lark.rule(f'{lark.whitespace()} {opener} {name} ">" {self._any_nested(lark)} {closer} {name} ">"')

    def _nested_ends(self, lark: LarkBuilder) -> tuple[str, str]:
        """How a nested tag's opening and closing ends begin: terminals that everything here shares, since llguidance
        takes the longest one."""
        return lark.literal(self.nested_prefix + "<"), lark.literal(self.nested_prefix + "</")

    def _raw_grammar(self, lark: LarkBuilder, schema: JsonSchema, edge: str, close: str) -> str:
        """A raw value and its closing tag, restricted by the schema's `enum`, `const` or `pattern`."""
        ending = lark.literal(edge + close)
        values = schema.get("enum", [schema["const"]] if "const" in schema else [])
        if isinstance(values, list) and values:
            return f"({' | '.join(map(lark.literal, _spelled(values)))}) {ending}"
        pattern = whole_pattern(schema.get("pattern"))
        if pattern is not None:
            return lark.pattern_until(pattern, edge + close)
        if self.cdata:
            section = f'"<![CDATA[" {lark.until("]]>")} {lark.literal(close)}'
            return f"({section} | {lark.raw_until(close, self._following)})"
        return lark.raw_until(close, self._following)  # a line break before it is text to this grammar

    @property
    def _following(self) -> Sequence[str]:
        """What comes after a value: elsewhere its closing tag is text."""
        return (self.param_open, self.call_close)


class _StringStream:
    """Passes a raw string on as one JSON string, in pieces.

    The line break before the closing tag of a value on its own lines is held back until more text follows.
    """

    def __init__(self, emitter: ToolCallEmitter, *, line_value: bool) -> None:
        self._emitter = emitter
        self._line_value = line_value
        self._started = False
        self._on_lines = False
        self._held = ""
        emitter.arguments('"')

    def add(self, text: str) -> None:
        if not text:
            return
        if not self._started:
            self._started = True
            self._on_lines = self._line_value and text[0] == "\n"
            text = text[1:] if self._on_lines else text
        text = self._held + text
        body = text.removesuffix("\n") if self._on_lines else text
        self._held = text[len(body) :]
        if body:
            self._emitter.arguments(json.dumps(body, ensure_ascii=False)[1:-1])

    def end(self) -> None:
        self._emitter.arguments('"')


def _declared_types(attributes: str) -> set[str]:
    """The types that a tag's own attribute declares: `string="true"`, or `type="number"`."""
    declared = re.search(r'(string|type)\s*=\s*"?(\w+)', attributes)
    if declared is None:
        return set()
    return _ATTRIBUTE_TYPES.get(declared[2], set()) if declared[1] == "string" else {declared[2]}


def _spelled(values: Sequence[Any]) -> list[str]:
    """Values as they are written raw, Python's constants too."""
    found: list[str] = []
    for value in values:
        found.append(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        if value is None or isinstance(value, bool):
            found.append(repr(value))
    return list(dict.fromkeys(found))
