"""The markup of calls with one tag per argument, as data, and its grammar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cortex.engine.chat.splitting.typed_values import item_schema
from cortex.engine.grammar.argument_shape import argument_shape
from cortex.engine.grammar.lark import LarkBuilder, quoted
from cortex.engine.grammar.patterns import whole_pattern
from cortex.engine.grammar.references import finite_values, resolved, types_of
from cortex.engine.grammar.values import ValueGrammar
from cortex.wire.inference import JsonSchema, Tool

__all__ = ["TaggedMarkup"]

_MAX_NESTED = 6  # tags in tags; deeper ones are free
_QUOTE = json.dumps('"')
_OTHER_KEY = "[^{end}<>\\s\"'=]{{1,64}}"


@dataclass(frozen=True, slots=True)
class TaggedMarkup:
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
        if isinstance(values := schema.get("enum"), list) and not any(
            isinstance(value, dict | list) for value in values
        ):
            return lark.any_of([lark.literal(text) for text in _spelled(values)])
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
        if (values := finite_values(schema)) is not None:
            return f"({' | '.join(map(lark.literal, _spelled(values)))}) {ending}"
        pattern = whole_pattern(resolved(schema, schema).get("pattern"))
        if pattern is not None:
            return lark.pattern_until(pattern, edge + close)
        if self.nested_prefix:
            until = lark.pattern_until("(?s:.*)", self.nested_prefix)
            return f"{until} {lark.literal(close.removeprefix(self.nested_prefix))}"
        if self.cdata:
            section = f'"<![CDATA[" {lark.until("]]>")} {lark.literal(close)}'
            return f"({section} | {lark.raw_until(close, self._following)})"
        return lark.raw_until(close, self._following)  # a line break before it is text to this grammar

    @property
    def _following(self) -> Sequence[str]:
        """What comes after a value: elsewhere its closing tag is text."""
        return (self.param_open, self.call_close)


def _spelled(values: Sequence[Any]) -> list[str]:
    """Values as they are written raw, Python's constants too."""
    found: list[str] = []
    for value in values:
        found.append(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        if value is None or isinstance(value, bool):
            found.append(repr(value))
    return list(dict.fromkeys(found))
