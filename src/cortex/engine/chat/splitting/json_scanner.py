"""An incremental checker of one JSON value (RFC 8259).

It makes streamed tool arguments safe: whatever it accepted is a prefix of valid JSON, and it knows when the value is
complete. Nesting costs no recursion and numbers are not converted, so no text that a model writes is too much for it.
"""

from __future__ import annotations

import re
from enum import Enum, auto

__all__ = ["JsonScanner"]

_WHITESPACE = " \t\n\r"
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_DIGITS = "0123456789"
_HEX = "0123456789abcdefABCDEF"
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_LITERALS = {"t": "true", "f": "false", "n": "null"}


class _State(Enum):
    VALUE = auto()
    FIRST_ITEM = auto()  # after "[": a value or "]"
    FIRST_KEY = auto()  # after "{": a key or "}"
    KEY = auto()  # after "," in an object
    COLON = auto()
    AFTER = auto()  # after a value inside a container: "," or the closer
    STRING = auto()
    ESCAPE = auto()
    UNICODE = auto()
    LITERAL = auto()
    NUMBER = auto()
    DONE = auto()


# What may follow inside a number, by its part; a part in _NUMBER_ENDS may also be the last.
_NUMBER_STEPS: dict[str, tuple[tuple[str, str], ...]] = {
    "minus": (("0", "zero"), ("123456789", "int")),
    "zero": ((".", "point"), ("eE", "exp")),
    "int": ((_DIGITS, "int"), (".", "point"), ("eE", "exp")),
    "point": ((_DIGITS, "frac"),),
    "frac": ((_DIGITS, "frac"), ("eE", "exp")),
    "exp": (("+-", "sign"), (_DIGITS, "power")),
    "sign": ((_DIGITS, "power"),),
    "power": ((_DIGITS, "power"),),
}
_NUMBER_ENDS = {"zero", "int", "frac", "power"}


class JsonScanner:
    """Accepts one JSON value in pieces.

    Raw control characters inside strings, which small models often write, are returned escaped; everything else is
    returned unchanged. `complete`: the value has ended. `broken`: the next character can't belong to it.
    """

    def __init__(self) -> None:
        self.complete = False
        self.broken = False
        self._state = _State.VALUE
        self._stack: list[str] = []
        self._is_key = False
        self._part = ""  # of a number, or the rest of a literal, or the hex digits of \u so far

    def feed(self, text: str) -> tuple[str, int]:
        """The accepted part of `text`, control characters escaped, and how many characters of `text` were used.

        Fewer than all are used when the value completes or breaks inside `text`.
        """
        out: list[str] = []
        at = 0
        while at < len(text) and not self.complete and not self.broken:
            if self._state is _State.STRING and (run := _plain_end(text, at)) > at:
                out.append(text[at:run])
                at = run
                continue
            if (passed := self._step(text[at])) is None:
                break
            out.append(passed)
            at += 1
        return "".join(out), at

    def finish(self) -> bool:
        """End the input; whether the value is complete (only the end of the input ends a number at the top level)."""
        if self._state is _State.NUMBER and not self._stack and self._part in _NUMBER_ENDS:
            self.complete = True
        return self.complete

    def _step(self, char: str) -> str | None:
        """Process one character; None if it isn't used (it ends a number, or breaks the value)."""
        match self._state:
            case _State.STRING:
                return self._in_string(char)
            case _State.ESCAPE:
                return self._in_escape(char)
            case _State.UNICODE:
                return self._in_unicode(char)
            case _State.LITERAL:
                return self._in_literal(char)
            case _State.NUMBER:
                return self._in_number(char)
        if char in _WHITESPACE:
            return char
        match self._state:
            case _State.VALUE:
                return self._begin_value(char)
            case _State.FIRST_ITEM:
                return self._pop(char) if char == "]" else self._begin_value(char)
            case _State.FIRST_KEY if char == "}":
                return self._pop(char)
            case _State.FIRST_KEY | _State.KEY:
                return self._begin_string(char, key=True) if char == '"' else self._break()
            case _State.COLON:
                return self._go(char, _State.VALUE) if char == ":" else self._break()
        return self._after_value(char)

    def _begin_value(self, char: str) -> str | None:
        if char == '"':
            return self._begin_string(char, key=False)
        if char in "{[":
            self._stack.append(char)
            return self._go(char, _State.FIRST_KEY if char == "{" else _State.FIRST_ITEM)
        if char in _LITERALS:
            self._part = _LITERALS[char][1:]
            return self._go(char, _State.LITERAL)
        if char == "-" or char in _DIGITS:
            self._part = "minus" if char == "-" else "zero" if char == "0" else "int"
            return self._go(char, _State.NUMBER)
        return self._break()

    def _begin_string(self, char: str, *, key: bool) -> str:
        self._is_key = key
        return self._go(char, _State.STRING)

    def _after_value(self, char: str) -> str | None:
        top = self._stack[-1]
        if char == ",":
            return self._go(char, _State.KEY if top == "{" else _State.VALUE)
        return self._pop(char) if (top + char) in ("{}", "[]") else self._break()

    def _in_string(self, char: str) -> str:
        if char == "\\":
            return self._go(char, _State.ESCAPE)
        if char == '"':
            if self._is_key:
                return self._go(char, _State.COLON)
            self._end_value()
            return char
        return _ESCAPES.get(char, f"\\u{ord(char):04x}")

    def _in_escape(self, char: str) -> str | None:
        if char == "u":
            self._part = ""
            return self._go(char, _State.UNICODE)
        return self._go(char, _State.STRING) if char in '"\\/bfnrt' else self._break()

    def _in_unicode(self, char: str) -> str | None:
        if char not in _HEX:
            return self._break()
        self._part += char
        return self._go(char, _State.STRING if len(self._part) == 4 else _State.UNICODE)

    def _in_literal(self, char: str) -> str | None:
        if char != self._part[0]:
            return self._break()
        self._part = self._part[1:]
        if not self._part:
            self._end_value()
        return char

    def _in_number(self, char: str) -> str | None:
        for chars, part in _NUMBER_STEPS[self._part]:
            if char in chars:
                self._part = part
                return char
        if self._part not in _NUMBER_ENDS:
            return self._break()
        self._end_value()
        return None if self.complete else self._step(char)

    def _end_value(self) -> None:
        self._state = _State.AFTER if self._stack else _State.DONE
        self.complete = not self._stack

    def _pop(self, char: str) -> str:
        self._stack.pop()
        self._end_value()
        return char

    def _go(self, char: str, state: _State) -> str:
        self._state = state
        return char

    def _break(self) -> str | None:
        self.broken = True
        return None


def _plain_end(text: str, at: int) -> int:
    """Where the run of plain string characters (no quote, escape or control character) at `at` ends."""
    run = _PLAIN.match(text, at)
    return run.end() if run else at
