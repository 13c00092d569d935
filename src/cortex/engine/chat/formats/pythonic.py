"""Parser and grammar of calls in Python's syntax: `[f(a="x", b=[1, 2]), g()]` (Llama 4, Olmo 3, LFM2).

Some templates put quotes around a text without escaping what is in it, and their models do the same. A quote therefore
ends a string only where the call continues after it, and a backslash that begins no escape stands for itself.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cortex.engine.chat.formats.base import Evidence, Trigger, contains_all
from cortex.engine.chat.splitting.markers import special_tokens_in
from cortex.engine.chat.splitting.reader import Malformed, Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.chat.splitting.typed_values import json_text
from cortex.engine.chat.vocabulary import single_token
from cortex.engine.grammar.argument_shape import argument_shape
from cortex.engine.grammar.lark import LarkBuilder, quoted
from cortex.engine.grammar.references import types_of
from cortex.engine.grammar.schema_repair import readable
from cortex.engine.grammar.values import ValueGrammar
from cortex.wire.inference import JsonSchema, Tool

__all__ = ["Pythonic", "keyword_arguments"]

_OPENERS = {"(": ")", "[": "]", "{": "}"}
_MAYBE_NEXT = re.compile(r"""(?:,\s*(?:["']?[^\s"'=(),]*["']?\s*)?)?""")
_TEXT = "|".join(rf"{quote}(?:[^{quote}\\]|\\.|{quote}[^\s,)\\{quote}])*{quote}" for quote in ('"', "'"))
"""A text as a whole argument, perhaps with quotes in it that nobody escaped: none of them may look like its end."""
_OTHER_KEY = r"""[A-Za-z_][A-Za-z0-9_.-]{0,63}"""
_ESCAPE = re.compile(r"""\\(?:[\\'"abfnrtv\n0-7]|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|N\{[^{}]+\})|\\""")
_CONTROL = re.compile(r"[\x00-\x1f]")
_JSON_NAMES = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Pythonic:
    """A list of calls between the markers `open` and `close`, or bare at the start of a text segment (both "").

    `lines`: the calls are on lines of their own without the list's brackets. `evidence`: strings that the template must
    all contain, unless both markers are single tokens of the vocabulary.
    """

    name: str
    open: str = ""
    close: str = ""
    lines: bool = False
    evidence: tuple[str, ...] = ()
    wrappers: tuple[tuple[str, str], ...] = ()
    frames: bool = False

    @property
    def triggers(self) -> Sequence[Trigger]:
        # A call without a marker may follow text, on a line of its own.
        return (Trigger(self.open),) if self.open else (Trigger("[", at_start=True), Trigger("\n["))

    @property
    def special_tokens(self) -> Sequence[str]:
        return special_tokens_in(self.open, self.close)

    @property
    def holds_several(self) -> bool:
        return not self.lines

    def matches(self, evidence: Evidence) -> str | None:
        ends = [single_token(evidence.vocabulary, end) for end in (self.open, self.close) if end]
        if ends and None not in ends:
            return f"{self.open!r} and {self.close!r} are single tokens of the vocabulary"
        return contains_all(evidence, self.evidence)

    def parse(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        if self.open:
            yield from reader.expect(self.open)
        yield from reader.skip_whitespace()
        bracketed = (yield from reader.take("[")) is not None
        if not bracketed and not self.open:
            raise Malformed
        while True:
            yield from _call(reader, emitter)
            yield from reader.skip_whitespace()
            if bracketed and (yield from reader.expect(",", "]")) == "]":
                break
            if not bracketed and ((yield from reader.at_end()) or (yield from reader.take(self.close))):
                return
        if self.close:
            yield from reader.skip_whitespace()
            yield from reader.take(self.close)

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        call = lark.any_of([_call_grammar(lark, tool) for tool in tools])
        more = f"({lark.regex(', ?')} {call}){{0,15}}" if parallel and self.holds_several else ""
        start = '"["' if self.open and not self.lines else ""
        end = '"]"' if not self.lines else ""
        edge = '"\\n"' if self.lines else ""
        return f"{start} {edge} {call} {more} {edge} {end} {f'({lark.literal(self.close)})?' if self.close else ''}"


def _call_grammar(lark: LarkBuilder, tool: Tool) -> str:
    """Keyword arguments in any order, with values as JSON or Python write them."""
    shape = argument_shape(tool.parameters)
    values = ValueGrammar(lark, tool.parameters, python=True)

    def value(schema: JsonSchema) -> str:
        is_text = types_of(schema) == {"string"} and not schema.keys() & {"enum", "const", "pattern"}
        return lark.regex(_TEXT) if is_text else values.value(schema)

    arguments = [
        (lark.rule(f"{json.dumps(key + '=', ensure_ascii=False)} {value(schema)}"), key in shape.required)
        for key, schema in shape.properties.items()
    ]
    more = ""
    if shape.additional is not None:
        named = ["|".join(map(quoted, shape.properties))] if shape.properties else []
        more = lark.rule(f'{lark.regex(_OTHER_KEY, unlike=named)} "=" {values.value(shape.additional)}')
    members = lark.any_order(arguments, lark.regex(", ?"), more)
    return lark.rule(f'{json.dumps(tool.name + "(")} {members} ")"')


def _call(reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
    """One `name(key=value, …)`."""
    yield from reader.skip_whitespace()
    name = yield from reader.known_name(emitter.tools, "(")
    emitter.begin(name)
    yield from keyword_arguments(reader, emitter, emitter.tools[name])


def keyword_arguments(reader: Reader, emitter: ToolCallEmitter, tool: Tool) -> Reading[None]:
    """`key=value, …)` up to the end of a call that has begun. Each value is passed on when it is complete."""
    following = _next_argument(tool)
    emitter.arguments("{")
    count = 0
    while True:
        yield from reader.skip_whitespace()
        if (yield from reader.take(")")):
            break
        key, _ = yield from reader.name("=")
        text, end = yield from _expression(reader, following)
        name = json.dumps(key.strip("\"'"), ensure_ascii=False)
        value = json_text(_value(reader.markers.decode(text)))
        emitter.arguments(f"{', ' if count else ''}{name}: {value}")
        count += 1
        if end == ")":
            break
    emitter.arguments("}")
    emitter.end()


def _expression(reader: Reader, following: re.Pattern[str]) -> Reading[tuple[str, str]]:
    """A Python literal's text, and the comma or parenthesis after it, which is read too."""
    depth: list[str] = []
    parts: list[str] = []
    while True:
        text, stop = yield from reader.until(",", ")", "(", "[", "]", "{", "}", '"', "'")
        parts.append(text)
        if not depth and stop in ",)":
            return "".join(parts).strip(), stop
        parts.append(stop)
        if stop in "\"'":
            yield from _string(reader, stop, parts, None if depth else following)
        elif stop in _OPENERS:
            depth.append(_OPENERS[stop])
        elif stop != "," and (not depth or depth.pop() != stop):
            raise Malformed


def _string(reader: Reader, quote: str, parts: list[str], following: re.Pattern[str] | None) -> Reading[None]:
    """Append the rest of a string literal after its opening quote to `parts`, with the escapes that Python requires."""
    while True:
        text, stop = yield from reader.until(quote, "\\")
        parts.append(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
        if stop == "\\":
            parts.append(stop + (yield from reader.peek()))
            yield from reader.expect(parts[-1][1])
        elif (yield from _closes(reader, following)):
            parts.append(quote)
            return
        else:
            parts.append("\\" + quote)


def _closes(reader: Reader, following: re.Pattern[str] | None) -> Reading[bool]:
    """Whether a quote just read ends its string, judged by what comes next; `following` None: in a list or object."""
    if following is None:
        return (yield from reader.follows(",", ":", *_OPENERS.values()))
    return (yield from reader.follows_pattern(following, _MAYBE_NEXT))


def _next_argument(tool: Tool) -> re.Pattern[str]:
    """What comes after an argument: the call's end, or a comma and the next, which may have any name of the tool's."""
    names = "|".join([*map(re.escape, argument_shape(readable(tool.parameters)).properties), r"[\w.-]+"])
    return re.compile(rf"""\)|,\s*(?:\)|["']?(?:{names})["']?\s*=)""")


def _value(text: str) -> Any:
    """The value of a JSON or Python literal; Malformed if it is neither."""
    for read in (json.loads, _python_value):
        try:
            value = read(text)
            json.dumps(value, allow_nan=False)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        return value
    raise Malformed


def _python_value(text: str) -> Any:
    escaped = _ESCAPE.sub(lambda found: found[0] if len(found[0]) > 1 else "\\\\", text)
    return ast.literal_eval(_JsonNames().visit(ast.parse(escaped, mode="eval")))


class _JsonNames(ast.NodeTransformer):
    """Replaces JSON's `true`, `false` and `null` by Python's constants."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_JSON_NAMES[node.id]) if node.id in _JSON_NAMES else node
