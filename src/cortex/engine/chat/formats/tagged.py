"""Parser and grammar of calls with one tag per argument and raw values in them: Qwen3-Coder, MiniMax M2, GLM, DSML …"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cortex.engine.chat.formats.base import Evidence, Trigger, contains_all
from cortex.engine.chat.splitting.markers import special_tokens_in
from cortex.engine.chat.splitting.reader import Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.chat.splitting.typed_values import json_value, nested_tags_value, property_schema, types_of
from cortex.engine.grammar.lark import LarkBuilder
from cortex.wire.inference import JsonSchema, Tool

__all__ = ["TaggedCalls"]

_QUOTE = json.dumps('"')
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
        key, _ = yield from reader.name(self.key_end)
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
        that contains its own markup.
        """
        while True:
            part, stop = yield from reader.part(close)
            add(part)
            if stop is not None:
                if (yield from reader.follows(self.param_open, self.call_close)):
                    return
                add(reader.markers.encode(close))

    # ---- the grammar

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        calls = [self._call_grammar(lark, tool) for tool in tools]
        if not self.section_open:
            return lark.any_of(calls)
        line, close = lark.whitespace(), lark.literal(self.section_close)
        one = lark.rule(f"{line} {lark.literal(self.call_open)} {lark.any_of(calls)}")
        many = f"{one} ({one}){{0,15}}" if parallel and self.holds_several else one
        return f"{many} {line} {close}"

    def _call_grammar(self, lark: LarkBuilder, tool: Tool) -> str:
        """A call after its `call_open`: arguments in the schema's order, those that aren't required optional."""
        properties = tool.parameters.get("properties", {})
        required = tool.parameters.get("required", [])
        line = lark.whitespace()
        parts = [lark.literal(tool.name + (self.name_end if self.param_open != self.name_end else ""))]
        if self.head_end:
            number = (
                f"{json.dumps(' index=' + chr(34))} {lark.regex('[0-9]{1,2}')} {_QUOTE}" if self.numbered_head else ""
            )
            parts.append(f"{number} {lark.literal(self.head_end)}")
        for key in properties:
            argument = lark.rule(f"{line} {self._argument_grammar(lark, tool, key)}")
            parts.append(argument if key in required else f"{argument}?")
        return lark.rule(" ".join([*parts, line, lark.literal(self.call_close)]))

    def _argument_grammar(self, lark: LarkBuilder, tool: Tool, key: str) -> str:
        schema = property_schema(tool.parameters, key)
        # What may be a string is written raw: quotes would be part of the string.
        is_raw = not types_of(schema) or "string" in types_of(schema)
        head = self.param_open + key + self.key_end
        if self.attributes_end:
            head += self._attributes(schema, is_raw) + self.attributes_end
        edge = "\n" if self.line_values else ""
        close = self.value_close.replace("{key}", key)
        opening = f"{lark.whitespace()} {lark.literal(self.value_open)}" if self.value_open else ""
        value = self._raw_grammar(lark, schema, edge + close)
        if not is_raw:
            options = {name: value for name, value in tool.parameters.items() if name == "x-guidance"}
            value = f"{lark.json({**schema, **options})} {lark.literal(edge + close)}"
        return f"{lark.literal(head)} {opening} {lark.literal(edge) if edge else ''} {value}"

    def _attributes(self, schema: JsonSchema, is_raw: bool) -> str:
        if self.typed_attribute:
            return f' type="{"string" if is_raw else min(types_of(schema))}"'
        return f' string="{"true" if is_raw else "false"}"'

    def _raw_grammar(self, lark: LarkBuilder, schema: JsonSchema, close: str) -> str:
        """A raw value and its closing tag, restricted by the schema's `enum`, `const` or `pattern`."""
        if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
            written = [value if isinstance(value, str) else json.dumps(value) for value in values]
            return f"{lark.any_of([lark.literal(text) for text in written])} {lark.literal(close)}"
        if pattern := schema.get("pattern"):
            return f"{lark.regex(_anchored(pattern))} {lark.literal(close)}"
        return lark.raw_until(close.removeprefix("\n"))  # a line break before it is text to this grammar


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


def _anchored(pattern: str) -> str:
    """A JSON Schema pattern, which may match anywhere, as a regex for the whole value."""
    start = "" if pattern.startswith("^") else "(?s:.*)"
    end = "" if pattern.endswith("$") else "(?s:.*)"
    return f"{start}{pattern.removeprefix('^').removesuffix('$')}{end}"
