"""Families whose calls are JSON objects that hold name and arguments, alone, in a row or in an array."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cortex.engine.chat.formats.base import Evidence, Steps, Trigger, atoms_in, holds_all
from cortex.engine.chat.splitting.json_scanner import JsonScanner
from cortex.engine.chat.splitting.reader import Malformed, Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.grammar.lark import LarkBuilder
from cortex.wire.inference import Tool

__all__ = ["JsonCalls", "read_call_object", "stream_arguments"]


@dataclass(frozen=True, slots=True)
class JsonCalls:
    """JSON between markers. The first of each key tuple is the one the family's models write.

    `close` "" means that the block ends with its JSON. `evidence`: strings that the template must all hold.
    `array`: the models write an array even for one call; both are read. `bare`: the block begins with the JSON
    itself, `open` being its first character. `fenced`: models write a code fence around the JSON.
    """

    name: str
    open: str
    close: str = ""
    evidence: tuple[str, ...] = ()
    name_keys: tuple[str, ...] = ("name", "function", "tool_name")
    argument_keys: tuple[str, ...] = ("arguments", "parameters")
    array: bool = False
    bare: bool = False
    at_start: bool = False
    other_triggers: tuple[Trigger, ...] = ()
    wrappers: tuple[tuple[str, str], ...] = ()
    fenced: bool = False
    frames: bool = False

    @property
    def triggers(self) -> Sequence[Trigger]:
        return (Trigger(self.open, at_start=self.at_start), *self.other_triggers)

    @property
    def atoms(self) -> Sequence[str]:
        return atoms_in(self.open, self.close, *(trigger.text for trigger in self.other_triggers))

    @property
    def holds_several(self) -> bool:
        return self.array

    def matches(self, evidence: Evidence) -> str | None:
        return holds_all(evidence, self.evidence)

    def parse(self, reader: Reader, sink: ToolCallEmitter) -> Steps:
        if not self.bare:
            yield from reader.expect(*(trigger.text for trigger in self.triggers))
        yield from reader.skip_blank()
        fenced = yield from reader.take("```json", "```")
        yield from reader.skip_blank()
        yield from self._calls(reader, sink)
        if fenced:
            yield from reader.skip_blank()
            yield from reader.take("```")
        if self.close:
            yield from reader.skip_blank()
            yield from reader.take(self.close)

    def _calls(self, reader: Reader, sink: ToolCallEmitter) -> Steps:
        """An array of call objects, or one or more of them in a row."""
        in_array = (yield from reader.take("[")) is not None
        while True:
            yield from reader.skip_blank()
            yield from self.read_object(reader, sink)
            if not (yield from self._another(reader, in_array)):
                return

    def read_object(self, reader: Reader, sink: ToolCallEmitter) -> Steps:
        yield from read_call_object(reader, sink, self.name_keys, self.argument_keys, picky=self.bare)

    def _another(self, reader: Reader, in_array: bool) -> Reading[bool]:
        yield from reader.skip_blank()
        if in_array:
            return (yield from reader.expect(",", "]")) == ","
        if (yield from reader.at_end()):
            return False
        yield from reader.take(",", ";")
        yield from reader.skip_blank()
        return not (yield from reader.at_end()) and (yield from reader.peek()) == "{"

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        call = lark.any_of([self.call_object(lark, tool) for tool in tools])
        fence = (json.dumps("```json\n"), json.dumps("\n```")) if self.fenced else ("", "")
        start = f"{lark.blanks()} {fence[0]}" if not self.bare else ""
        end = f"{fence[1]} {lark.blanks()} {lark.literal(self.close)}" if self.close else fence[1]
        if not self.array:
            return f"{start} {call} {end}"
        more = f'(", " {call})*' if parallel else ""
        bracket = "" if self.bare else '"["'
        return f'{start} {bracket} {call} {more} "]" {end}'

    def call_object(self, lark: LarkBuilder, tool: Tool) -> str:
        """The object the family's models write for `tool`, its arguments valid for the schema."""
        head = f'{{"{self.name_keys[0]}": {json.dumps(tool.name)}, "{self.argument_keys[0]}": '
        head = head[1:] if self.bare and not self.array else head  # the brace is the trigger
        return lark.rule(f'{json.dumps(head)} {lark.json(tool.parameters)} "}}"')


def read_call_object(
    reader: Reader,
    sink: ToolCallEmitter,
    name_keys: Sequence[str],
    argument_keys: Sequence[str],
    *,
    picky: bool = False,
) -> Reading[None]:
    """One call object; its keys may come in any order, and be wrapped as `{"function": {…}}`.

    `picky`: a key that no call has makes it Malformed at once, so that other JSON streams as text.
    """
    reading = _CallObject(reader, sink, name_keys, argument_keys, picky)
    yield from reading.read()
    sink.end()


class _CallObject:
    def __init__(
        self, reader: Reader, sink: ToolCallEmitter, name_keys: Sequence[str], argument_keys: Sequence[str], picky: bool
    ) -> None:
        self._picky = picky
        self._reader = reader
        self._sink = sink
        self._name_keys = name_keys
        self._argument_keys = argument_keys
        self._named = False
        self._early_arguments: str | None = None

    def read(self) -> Steps:
        reader = self._reader
        yield from reader.expect("{")
        while True:
            yield from reader.skip_blank()
            key = yield from self._string()
            yield from reader.skip_blank()
            yield from reader.expect(":")
            yield from reader.skip_blank()
            yield from self._value(key)
            yield from reader.skip_blank()
            if (yield from reader.expect(",", "}")) == "}":
                break
        if not self._named:
            raise Malformed

    def _value(self, key: str) -> Steps:
        first = yield from self._reader.peek()
        if key == "function" and first == "{":
            yield from self.read()
        elif key in self._name_keys and not self._named and first == '"':
            yield from self._name()
        elif key in self._argument_keys and self._named:
            yield from stream_arguments(self._reader, self._sink)
        elif key in self._argument_keys:
            self._early_arguments = unwrapped((yield from self._reader.json_text()))
        elif self._picky and key not in ("id", "type", "tool_call_id"):
            raise Malformed
        else:
            yield from self._reader.json_text()

    def _name(self) -> Steps:
        name = yield from self._string()
        self._sink.begin(name)
        self._named = True
        if self._early_arguments is not None:
            self._sink.arguments(self._early_arguments)

    def _string(self) -> Reading[str]:
        if (yield from self._reader.peek()) != '"':
            raise Malformed
        text = yield from self._reader.json_text()
        return self._reader.markers.decode(str(json.loads(text)))


def stream_arguments(reader: Reader, sink: ToolCallEmitter) -> Steps:
    """The arguments as they come: a JSON object, null, or (some models do) the object's text as a JSON string."""
    yield from reader.skip_blank()
    if (yield from reader.peek()) != "{":
        sink.arguments(unwrapped((yield from reader.json_text())))
        return
    scanner = JsonScanner()
    while not scanner.complete:
        sink.arguments((yield from reader.json_part(scanner)))


def unwrapped(value: str) -> str:
    """An object's JSON text, from itself, its text in a JSON string, or nothing. Raises Malformed."""
    decoded = json.loads(value)
    if isinstance(decoded, str):
        value = decoded.strip() or "{}"
        try:
            decoded = json.loads(value)
        except ValueError:
            raise Malformed from None
    if decoded is None:
        return "{}"
    if not isinstance(decoded, dict):
        raise Malformed
    return value
