"""Writing a grammar in llguidance's Lark dialect, markers as special tokens where the vocabulary has them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from cortex.engine.chat.formats.base import single_token
from cortex.engine.chat.splitting.markers import MarkerTable
from cortex.wire.inference import JsonSchema

__all__ = ["LarkBuilder"]

_NOTHING = '""'
_ANY_TEXT = "(?s:.*)"
_BLANKS_BEHIND = "(?:|" + "|".join(r"[ \n]" * count for count in range(1, 9)) + ")"


class LarkBuilder:
    """Collects rules; expressions are strings that `rule` and `build` take."""

    def __init__(self, markers: MarkerTable) -> None:
        self._markers = markers
        self._rules: list[str] = []
        self._blanks: str | None = None

    def literal(self, text: str) -> str:
        """Exactly `text`; a marker in it that is one token must come as this token."""
        parts: list[str] = []
        for piece in self._markers.pieces(text):
            if self._markers.is_token(piece):
                token = single_token(self._markers.vocabulary, piece)
                parts.append(f"<[{token}]>")
            elif piece:
                parts.append(json.dumps(piece, ensure_ascii=False))
        return " ".join(parts) or '""'

    def is_token(self, marker: str) -> bool:
        return self._markers.is_token(marker)

    def rule(self, expression: str) -> str:
        """Name an expression."""
        name = f"r{len(self._rules)}"
        self._rules.append(f"{name}: {expression}")
        return name

    def json(self, schema: JsonSchema) -> str:
        """A JSON value that `schema` accepts."""
        return self.rule("%json " + json.dumps(schema))

    def regex(self, pattern: str) -> str:
        """A terminal; `pattern` in Rust's regex syntax."""
        name = f"R{len(self._rules)}"
        self._rules.append(f"{name}: /{_slashed(pattern)}/")
        return name

    def blanks(self) -> str:
        """Optional blanks, where parsers skip them and templates of one family differ."""
        if self._blanks is None:
            self._blanks = self.regex("[ \\n]{0,3}")
        return self._blanks

    def until(self, marker: str) -> str:
        """Any text up to and including the first `marker`."""
        pieces = self._markers.pieces(marker)
        first = next((place for place, piece in enumerate(pieces) if self._markers.is_token(piece)), None)
        if first is not None:
            # The text runs up to the token, so that what the marker has before it is part of the text here.
            return f"{self.any_text()} {self.literal(''.join(pieces[first:]))}"
        name = f"u{len(self._rules)}"
        self._rules.append(f"{name}[suffix={json.dumps(marker, ensure_ascii=False)}]: /{_ANY_TEXT}/")
        return name

    def raw_until(self, marker: str) -> str:
        """Like `until`, where up to eight blanks and then another tag follow: with anything else behind it, the marker
        is text.

        Cheaper: llguidance knows the masks of whole classes of tokens beforehand, and puts them to use where a lexeme
        repeats one class of characters, a few texts excepted whose length it sees (not one with a counted repetition).
        A lazy lexeme isn't such.
        """
        first = marker[0]
        if first in marker[1:] or any(map(self.is_token, self._markers.pieces(marker))):
            return self.until(marker)
        end = _quoted(marker) + _BLANKS_BEHIND
        others = f"[^{_quoted(first)}]*"
        name = f"C{len(self._rules)}"
        self._rules.append(f"{name}: /{_slashed(_quoted(first) + others)}/ & ~/{_slashed(end)}/")
        return f"{self.regex(others)} {name}* {self.regex(end)}"

    def any_text(self) -> str:
        return self.regex(_ANY_TEXT)

    def any_of(self, expressions: list[str]) -> str:
        return self.rule(" | ".join(expressions))

    def declare(self) -> str:
        """A name for a rule that refers to itself; `define` must follow."""
        name = f"d{len(self._rules)}"
        self._rules.append("")
        return name

    def define(self, name: str, expression: str) -> None:
        self._rules[int(name[1:])] = f"{name}: {expression}"

    def in_order(self, members: Sequence[tuple[str, bool]], separator: str) -> str:
        """All members that are required (the flag) and any of the others, separators between those that are there."""
        behind, first = "", ""
        for member, required in reversed(members):
            first_here, behind_here = f"{member} {behind}", f"{json.dumps(separator)} {member} {behind}"
            first = self.rule(first_here if required else f"{first_here} | {first or _NOTHING}")
            behind = self.rule(behind_here if required else f"{behind_here} | {behind or _NOTHING}")
        return first

    def build(self, start: str) -> str:
        return "\n".join([f"start: {start}", *self._rules]) + "\n"


def _quoted(text: str) -> str:
    """A pattern for exactly `text`, in a class of characters or outside of one."""
    return re.sub(r"[!-/:;=?@\[-`{-~]", r"\\\g<0>", text)


def _slashed(pattern: str) -> str:
    return re.sub(r"(?<!\\)/", r"\\/", pattern).replace("\n", r"\n")
