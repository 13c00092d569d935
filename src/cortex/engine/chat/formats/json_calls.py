"""Parser and grammar of calls that are JSON objects with name and arguments: one, several in a row, or an array."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cortex.engine.chat.formats.base import Evidence, Trigger, contains_all
from cortex.engine.chat.splitting.json_scanner import JsonScanner
from cortex.engine.chat.splitting.markers import special_tokens_in
from cortex.engine.chat.splitting.reader import Malformed, Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.grammar.lark import LarkBuilder
from cortex.engine.grammar.values import ValueGrammar
from cortex.wire.inference import Tool

__all__ = ["JsonCalls", "stream_arguments"]

_BLANK = r"(\n[ ]{0,24}| )?"
_COMMA = f",{_BLANK}"
_COLON = ": ?"
_ID = '"[a-zA-Z0-9_-]{1,64}"|0|[1-9][0-9]{0,8}'


@dataclass(frozen=True, slots=True)
class JsonCalls:
    """JSON between markers. The first of each key tuple is the one that the family's models write.

    `close` "" means that the block ends with its JSON. `evidence`: strings that the template must all contain.
    `array`: the models write an array even for one call; both are read. `bare`: the block begins with the JSON
    itself, and `open` is its first character. `fenced`: the models write a code fence around the JSON. `name_is_key`:
    an object's only key is the name, its value the arguments; the key tuples then mean nothing. `lines`: a block may
    hold several objects, one after another. `id_key`: an id may come after the arguments, or (`id_first`) before the
    name.
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
    name_is_key: bool = False
    lines: bool = False
    id_key: str = ""
    id_first: bool = False
    frames: bool = False

    @property
    def triggers(self) -> Sequence[Trigger]:
        # A call without a marker may follow text, on a line of its own.
        after_text = (Trigger("\n" + self.open),) if self.bare and self.at_start else ()
        return (Trigger(self.open, at_start=self.at_start), *after_text, *self.other_triggers)

    @property
    def special_tokens(self) -> Sequence[str]:
        return special_tokens_in(self.open, self.close, *(trigger.text for trigger in self.other_triggers))

    @property
    def holds_several(self) -> bool:
        return self.array or self.lines

    def matches(self, evidence: Evidence) -> str | None:
        return contains_all(evidence, self.evidence)

    def parse(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        if not self.bare:
            yield from reader.expect(*(trigger.text for trigger in self.triggers))
        yield from reader.skip_whitespace()
        fenced = yield from reader.take("```json", "```")
        yield from reader.skip_whitespace()
        yield from self._calls(reader, emitter)
        if fenced:
            yield from reader.skip_whitespace()
            yield from reader.take("```")
        if self.close:
            yield from reader.skip_whitespace()
            yield from reader.take(self.close)

    def _calls(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        """An array of call objects, or one or more of them one after another."""
        in_array = (yield from reader.take("[")) is not None
        while True:
            yield from reader.skip_whitespace()
            yield from self._call_object(reader, emitter)
            if not (yield from self._another(reader, in_array)):
                return

    def _call_object(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        if self.name_is_key:
            yield from _keyed_object(reader, emitter)
        else:
            # Where nothing but the JSON begins a block, other JSON is to stream as text.
            yield from _CallObject(reader, emitter, self.name_keys, self.argument_keys, strict=self.bare).read()
        emitter.end()

    def _another(self, reader: Reader, in_array: bool) -> Reading[bool]:
        """Whether another call follows, the separator before it read already."""
        yield from reader.skip_whitespace()
        if in_array:
            return (yield from reader.expect(",", "]")) == ","
        if (yield from reader.at_end()):
            return False
        yield from reader.take(",", ";")
        yield from reader.skip_whitespace()
        return not (yield from reader.at_end()) and (yield from reader.peek()) == "{"

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        call = lark.any_of([self._object_grammar(lark, tool) for tool in tools])
        blank = lark.regex(_BLANK)
        fence = (json.dumps("```json\n"), json.dumps("\n```")) if self.fenced else ("", "")
        start = f"{lark.whitespace()} {fence[0]}" if not self.bare else ""
        end = f"{fence[1]} ({lark.whitespace()} {lark.literal(self.close)})?" if self.close else fence[1]
        if not self.array:
            more = f"({blank} {call}){{0,15}}" if parallel and self.lines else ""
            return f"{start} {call} {more} {end}"
        more = f'("," {blank} {call})*' if parallel else ""
        bracket = "" if self.bare else '"["'
        return f'{start} {bracket} {blank} {call} {more} {blank} "]" {end}'

    def _object_grammar(self, lark: LarkBuilder, tool: Tool) -> str:
        """The object that the family's models write for `tool`, with arguments valid for its schema."""
        blank, comma, colon = lark.regex(_BLANK), lark.regex(_COMMA), lark.regex(_COLON)
        arguments = ValueGrammar(lark, tool.parameters).arguments()
        name = json.dumps(json.dumps(tool.name, ensure_ascii=False), ensure_ascii=False)
        if self.name_is_key:
            return lark.rule(f'"{{" {blank} {name} {colon} {arguments} {blank} "}}"')
        brace = '"{"' if self.array or not self.bare else ""  # else it is the trigger
        before = after = ""
        if self.id_key:
            member = f"{_quoted(self.id_key)} {colon} {lark.regex(_ID)}"
            before, after = (f"({member} {comma})?", "") if self.id_first else ("", f"({comma} {member})?")
        argument_keys = " | ".join(map(_quoted, self.argument_keys))
        head = f"{_quoted(self.name_keys[0])} {colon} {name} {comma} ({argument_keys}) {colon}"
        return lark.rule(f'{brace} {blank} {before} {head} {arguments} {after} {blank} "}}"')


def _quoted(key: str) -> str:
    """A Lark literal for `key` as JSON writes it."""
    return json.dumps(json.dumps(key))


def _keyed_object(reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
    """`{"name": {arguments}}`."""
    yield from reader.expect("{")
    yield from reader.skip_whitespace()
    emitter.begin((yield from _json_string(reader)))
    yield from reader.skip_whitespace()
    yield from reader.expect(":")
    yield from stream_arguments(reader, emitter)
    yield from reader.skip_whitespace()
    yield from reader.expect("}")


class _CallObject:
    """Reads one call object; its keys may come in any order, and be wrapped as `{"function": {…}}`.

    `strict`: a key that no call has is Malformed at once, and a key that calls have shows that this is one.
    """

    def __init__(
        self,
        reader: Reader,
        emitter: ToolCallEmitter,
        name_keys: Sequence[str],
        argument_keys: Sequence[str],
        *,
        strict: bool,
    ) -> None:
        self._reader = reader
        self._emitter = emitter
        self._name_keys = name_keys
        self._argument_keys = argument_keys
        self._strict = strict
        self._named = False
        self._early_arguments: str | None = None  # that came before the name

    def read(self) -> Reading[None]:
        reader = self._reader
        yield from reader.expect("{")
        while True:
            yield from reader.skip_whitespace()
            key = yield from _json_string(self._reader)
            yield from reader.skip_whitespace()
            yield from reader.expect(":")
            yield from reader.skip_whitespace()
            yield from self._value(key)
            yield from reader.skip_whitespace()
            if (yield from reader.expect(",", "}")) == "}":
                break
        if not self._named:
            raise Malformed

    def _value(self, key: str) -> Reading[None]:
        if self._strict and (key == "function" or key in self._name_keys or key in self._argument_keys):
            self._reader.certain = True
        first = yield from self._reader.peek()
        if key == "function" and first == "{":
            yield from self.read()
        elif key in self._name_keys and not self._named and first == '"':
            yield from self._name()
        elif key in self._argument_keys and self._named:
            yield from stream_arguments(self._reader, self._emitter)
        elif key in self._argument_keys:
            self._early_arguments = _object_text((yield from self._reader.json_text()))
        elif self._strict and key not in ("id", "type", "tool_call_id"):
            raise Malformed
        elif (yield from self._reader.json_text()) == '"function"' and key == "type":
            self._reader.certain = True

    def _name(self) -> Reading[None]:
        name = yield from _json_string(self._reader)
        self._emitter.begin(name)
        self._named = True
        if self._early_arguments is not None:
            self._emitter.arguments(self._early_arguments)


def _json_string(reader: Reader) -> Reading[str]:
    """A JSON string's value, decoded. Raises Malformed if something else comes."""
    if (yield from reader.peek()) != '"':
        raise Malformed
    text = yield from reader.json_text()
    return reader.markers.decode(str(_loaded(text)))


def stream_arguments(reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
    """Pass on the arguments as they arrive: a JSON object, null, or (in some models) an object inside a JSON string."""
    yield from reader.skip_whitespace()
    if (yield from reader.peek()) != "{":
        emitter.arguments(_object_text((yield from reader.json_text())))
        return
    scanner = JsonScanner()
    while not scanner.complete:
        emitter.arguments((yield from reader.json_part(scanner)))


def _object_text(value: str) -> str:
    """An object's JSON text, from that text itself, from a JSON string that contains it, or from null ("{}"). Raises
    Malformed."""
    decoded = _loaded(value)
    if isinstance(decoded, str):
        value = decoded.strip() or "{}"
        decoded = _loaded(value)
    if decoded is None:
        return "{}"
    if not isinstance(decoded, dict):
        raise Malformed
    return value


def _loaded(text: str) -> Any:
    """The value of JSON text. Raises Malformed where Python can't read it: text that is no JSON, or that nests too
    deeply, or has a number of too many digits."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed from None
