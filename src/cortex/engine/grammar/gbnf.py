"""llama.cpp's grammars (GBNF) in llguidance's Lark dialect.

Source: llama.cpp, grammars/README.md and src/llama-grammar.cpp (`llama_grammar_parser`): rules, literals, classes,
groups, repetitions, and tokens by text (`<think>`) or id (`<[28]>`), negated by `!`. llguidance's own converter knows
no tokens and fails on rules called `start`, on escapes of one byte and on nested repetitions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["GbnfError", "lark_from_gbnf"]

_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_TOKEN_ID = re.compile(r"<\[(\d+)\]>")
_TOKEN_TEXT = re.compile(r"<[^<>\s]+>")
_REPEAT = re.compile(r"\{\s*(\d+)\s*(?:(,)\s*(\d*)\s*)?\}")
_HEX = {"x": 2, "u": 4, "U": 8}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "[": "[", "]": "]"}
_MAX_REPEAT = 2000  # llama.cpp, MAX_REPETITION_THRESHOLD


class GbnfError(ValueError):
    """What is wrong with a grammar, and where."""


@dataclass(slots=True)
class _Node:
    """A part of a rule. `lark`: the text of a literal, class or token, or a repetition's operator. `rule`: the name of
    one referred to. `least`: how often a repeated part must come."""

    lark: str = ""
    parts: list[_Node] = field(default_factory=list)
    rule: str = ""
    kind: Literal["text", "token", "rule", "sequence", "choice", "repeat"] = "text"
    least: int = 1


def lark_from_gbnf(text: str, token_id: Callable[[str], int | None] | None = None) -> str:
    """The grammar in Lark. `token_id` finds the one token spelled by a text. Raises GbnfError."""
    rules = _Parser(text, token_id).rules()
    if not rules:
        raise GbnfError("it has no rules")
    if "root" not in rules:
        raise GbnfError("it has no rule called root")
    for name, node in rules.items():
        for part in _all(node):
            if part.kind == "rule" and part.rule not in rules:
                raise GbnfError(f"rule {name} refers to {part.rule}, which is not defined")
    _refuse_left_recursion(rules)
    return _written(rules)


class _Parser:
    def __init__(self, text: str, token_id: Callable[[str], int | None] | None) -> None:
        self._text = text
        self._at = 0
        self._token_id = token_id

    def rules(self) -> dict[str, _Node]:
        found: dict[str, _Node] = {}
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            name = self._match(_NAME, "a rule's name")[0]
            self._skip(_SPACE)
            if not self._text.startswith("::=", self._at):
                raise self._error("expected ::=")
            self._at += 3
            self._skip(_SPACE_AND_LINES)
            found[name] = self._choice(nested=False)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                raise self._error("unexpected text")
            self._skip(_SPACE_AND_LINES)
        return found

    def _choice(self, *, nested: bool) -> _Node:
        options = [self._sequence(nested=nested)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(_SPACE_AND_LINES)
            options.append(self._sequence(nested=nested))
        return options[0] if len(options) == 1 else _Node(parts=options, kind="choice")

    def _sequence(self, *, nested: bool) -> _Node:
        items: list[_Node] = []
        blanks = _SPACE_AND_LINES if nested else _SPACE
        while self._at < len(self._text) and self._text[self._at] not in "|)\r\n":
            item = self._item()
            self._skip(blanks)
            while (repeated := self._repeated(item)) is not None:
                item = repeated
                self._skip(blanks)
            items.append(item)
        return items[0] if len(items) == 1 else _Node(parts=items, kind="sequence")

    def _item(self) -> _Node:
        char = self._text[self._at]
        if char == '"':
            return _Node(_literal(self._characters('"')))
        if char == "[":
            return self._class()
        if char == "(":
            self._at += 1
            self._skip(_SPACE_AND_LINES)
            inner = self._choice(nested=True)
            if not self._text.startswith(")", self._at):
                raise self._error("expected )")
            self._at += 1
            return inner
        if char == ".":
            self._at += 1
            return _Node("/(?s:.)/")
        if char in "<!":
            return self._token()
        return _Node(rule=self._match(_NAME, "a literal, class, group or rule")[0], kind="rule")

    def _repeated(self, item: _Node) -> _Node | None:
        """`item` with the repetition that comes next, None if none does."""
        char = self._text[self._at : self._at + 1]
        if char in ("*", "+", "?"):
            self._at += 1
            return _repeat(item, 1 if char == "+" else 0, 1 if char == "?" else None)
        if char != "{":
            return None
        found = self._match(_REPEAT, "{times}")
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if max(least, most or 0) > _MAX_REPEAT or (most is not None and most < least):
            raise self._error(f"a repetition of {found[0]}")
        return _repeat(item, least, most)

    def _token(self) -> _Node:
        is_negated = self._text[self._at] == "!"
        self._at += is_negated
        if (by_id := _TOKEN_ID.match(self._text, self._at)) is not None:
            self._at = by_id.end()
            return _Node(f"<[{'^' if is_negated else ''}{by_id[1]}]>", kind="token")
        text = self._match(_TOKEN_TEXT, "<token>")[0]
        token = self._token_id(text) if self._token_id is not None else None
        if token is None:
            raise self._error(f"{text} is not one token of this model")
        return _Node(f"<[{'^' if is_negated else ''}{token}]>", kind="token")

    def _class(self) -> _Node:
        self._at += 1
        is_negated = self._text.startswith("^", self._at)
        self._at += is_negated
        ranges: list[str] = []
        while not self._text.startswith("]", self._at):
            first = last = self._character()
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                last = self._character()
            if last < first:
                raise self._error(f"a range from {first} to {last}")
            ranges.append(f"\\x{{{ord(first):x}}}-\\x{{{ord(last):x}}}")
        self._at += 1
        if not ranges and not is_negated:
            raise self._error("an empty class")
        return _Node(f"/[{'^' if is_negated else ''}{''.join(ranges)}]/" if ranges else "/(?s:.)/")

    def _characters(self, end: str) -> str:
        self._at += 1
        found: list[str] = []
        while not self._text.startswith(end, self._at):
            found.append(self._character())
        self._at += 1
        return "".join(found)

    def _character(self) -> str:
        if self._at >= len(self._text):
            raise self._error("unexpected end")
        char = self._text[self._at]
        self._at += 1
        if char != "\\":
            return char
        escape = self._text[self._at : self._at + 1]
        self._at += 1
        if escape in _HEX:
            digits = self._text[self._at : self._at + _HEX[escape]]
            self._at += len(digits)
            if re.fullmatch(r"[0-9a-fA-F]+", digits) and len(digits) == _HEX[escape] and int(digits, 16) <= 0x10FFFF:
                return chr(int(digits, 16))
        elif escape in _ESCAPES:
            return _ESCAPES[escape]
        raise self._error(f"the escape \\{escape}")

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if (found := pattern.match(self._text, self._at)) is not None:
            self._at = found.end()

    def _match(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._error(f"expected {what}")
        self._at = found.end()
        return found

    def _error(self, message: str) -> GbnfError:
        line = self._text.count("\n", 0, self._at) + 1
        return GbnfError(f"{message} in line {line}, at {self._text[self._at : self._at + 20]!r}")


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _repeat(item: _Node, least: int, most: int | None) -> _Node:
    """`item` from `least` to `most` times. A repetition without limits inside another is that repetition."""
    if item.kind == "repeat" and item.lark == "*" and (least, most) in ((0, None), (1, None), (0, 1)):
        return item
    if (least, most) == (0, None) and item.kind == "repeat" and item.lark in ("+", "?"):
        return _Node("*", item.parts, kind="repeat", least=0)
    if (least, most) == (0, None):
        operator = "*"
    elif (least, most) == (1, None):
        operator = "+"
    elif (least, most) == (0, 1):
        operator = "?"
    else:
        operator = f"{{{least},{'' if most is None else most}}}"
    return _Node(operator, [item], kind="repeat", least=least)


def _all(node: _Node) -> Iterator[_Node]:
    yield node
    for part in node.parts:
        yield from _all(part)


def _refuse_left_recursion(rules: dict[str, _Node]) -> None:
    nullable: set[str] = set()
    while more := {name for name, node in rules.items() if name not in nullable and _is_nullable(node, nullable)}:
        nullable |= more
    first = {name: set(_first(node, nullable)) for name, node in rules.items()}
    for name in rules:
        seen: set[str] = set()
        waiting = [*first[name]]
        while waiting:
            reached = waiting.pop()
            if reached == name:
                raise GbnfError(f"rule {name} is left-recursive: it begins with itself")
            if reached not in seen:
                seen.add(reached)
                waiting += first[reached]


def _is_nullable(node: _Node, nullable: set[str]) -> bool:
    match node.kind:
        case "text":
            return node.lark == '""'
        case "rule":
            return node.rule in nullable
        case "sequence":
            return all(_is_nullable(part, nullable) for part in node.parts)
        case "choice":
            return any(_is_nullable(part, nullable) for part in node.parts)
        case "repeat":
            return node.least == 0 or _is_nullable(node.parts[0], nullable)
    return False


def _first(node: _Node, nullable: set[str]) -> Iterator[str]:
    """The rules that `node` may begin with."""
    if node.kind == "rule":
        yield node.rule
    for part in node.parts:
        yield from _first(part, nullable)
        if node.kind == "sequence" and not _is_nullable(part, nullable):
            return


def _written(rules: dict[str, _Node]) -> str:
    """Rules without tokens and recursion are terminals, whose masks are cheap (as in llguidance's own converter)."""
    terminals: set[str] = set()
    while more := {
        name
        for name, node in rules.items()
        if name not in terminals
        and name != "root"
        and all(part.kind != "token" and (part.kind != "rule" or part.rule in terminals) for part in _all(node))
    }:
        terminals |= more
    names = {
        name: "start" if name == "root" else f"{'T' if name in terminals else 'g'}{number}"
        for number, name in enumerate(rules)
    }
    return "".join(f"{names[name]}: {_text(node, names)}\n" for name, node in rules.items())


def _text(node: _Node, names: dict[str, str]) -> str:
    match node.kind:
        case "rule":
            return names[node.rule]
        case "sequence":
            return (
                " ".join(
                    f"({_text(part, names)})" if part.kind == "choice" else _text(part, names) for part in node.parts
                )
                or '""'
            )
        case "choice":
            return " | ".join(_text(part, names) for part in node.parts)
        case "repeat":
            [part] = node.parts
            inner = _text(part, names)
            return f"{inner if part.kind in ('text', 'rule', 'token') else f'({inner})'}{node.lark}"
    return node.lark
