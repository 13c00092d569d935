"""Parser of calls with one tag per argument and raw values in them: Qwen3-Coder, MiniMax M2, GLM, DSML …"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cortex.engine.chat.formats.base import Evidence, Trigger, contains_all
from cortex.engine.chat.formats.tagged_grammar import TaggedMarkup
from cortex.engine.chat.splitting.markers import special_tokens_in
from cortex.engine.chat.splitting.reader import Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.chat.splitting.typed_values import json_value, nested_tags_value, property_schema
from cortex.engine.grammar.argument_shape import argument_shape
from cortex.engine.grammar.references import types_of
from cortex.wire.inference import JsonSchema, Tool

__all__ = ["TaggedCalls"]

_ATTRIBUTE_TYPES = {"true": {"string"}, "false": {"array", "boolean", "integer", "null", "number", "object"}}


@dataclass(frozen=True, slots=True)
class TaggedCalls(TaggedMarkup):
    """The parser of the markup."""

    @property
    def triggers(self) -> Sequence[Trigger]:
        if not self.section_open:
            return (Trigger(self.call_open),)
        return (Trigger(self.section_open), *([Trigger(self.call_open)] if self.lenient_start else []))

    @property
    def special_tokens(self) -> Sequence[str]:
        tags = (self.section_open, self.section_close, self.call_open, self.call_close, self.param_open, self.key_end)
        values = (self.name_end, self.value_open, self.value_close, self.head_end, self.attributes_end)
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
