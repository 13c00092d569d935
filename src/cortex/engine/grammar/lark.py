"""Builds grammars in llguidance's Lark dialect; markers become special tokens where the vocabulary has them.

Syntax: llguidance, docs/syntax.md (`<[id]>` a token, `%json`, `[suffix=…]`, `&` and `~` on terminals).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from cortex.engine.chat.splitting.markers import MarkerTable
from cortex.wire.inference import JsonSchema

__all__ = ["LarkBuilder"]

_EMPTY = '""'
_ANY_TEXT = "(?s:.*)"
_WHITESPACE_AFTER = "(?:|" + "|".join(r"[ \n]" * count for count in range(1, 9)) + ")"


class LarkBuilder:
    """Collects rules. Expressions are strings, which `rule`, `any_of`, `in_order` and `build` combine."""

    def __init__(self, markers: MarkerTable) -> None:
        self._markers = markers
        self._rules: list[str] = []
        self._whitespace: str | None = None

    def literal(self, text: str) -> str:
        """Exactly `text`; a marker in it that is a single token must come as that token."""
        parts: list[str] = []
        for piece in self._markers.pieces(text):
            token = self._markers.token_of(piece)
            parts.append(json.dumps(piece, ensure_ascii=False) if token is None else f"<[{token}]>")
        return " ".join(parts) or _EMPTY

    def is_token(self, marker: str) -> bool:
        """Whether `marker` is a single token of the vocabulary."""
        return self._markers.is_token(marker)

    def rule(self, expression: str) -> str:
        """A new rule for `expression`; its name."""
        name = f"r{len(self._rules)}"
        self._rules.append(f"{name}: {expression}")
        return name

    def json(self, schema: JsonSchema) -> str:
        """A JSON value that is valid for `schema`."""
        return self.rule("%json " + json.dumps(schema))

    def regex(self, pattern: str) -> str:
        """A terminal for `pattern`, in the syntax of Rust's regex crate."""
        name = f"R{len(self._rules)}"
        self._rules.append(f"{name}: /{_slashed(pattern)}/")
        return name

    def whitespace(self) -> str:
        """Up to three spaces or line breaks, where parsers skip them and templates of one family differ."""
        if self._whitespace is None:
            self._whitespace = self.regex("[ \\n]{0,3}")
        return self._whitespace

    def until(self, marker: str) -> str:
        """Any text up to and including the first `marker`."""
        pieces = self._markers.pieces(marker)
        first = next((place for place, piece in enumerate(pieces) if self._markers.is_token(piece)), None)
        if first is not None:
            # The text ends at the token: what the marker has before the token counts as text here.
            return f"{self.any_text()} {self.literal(''.join(pieces[first:]))}"
        name = f"u{len(self._rules)}"
        self._rules.append(f"{name}[suffix={json.dumps(marker, ensure_ascii=False)}]: /{_ANY_TEXT}/")
        return name

    def raw_until(self, marker: str) -> str:
        """Like `until`, for a marker that up to eight spaces or line breaks and then another tag follow: elsewhere it
        is text.

        Cheaper than `until`: llguidance precomputes masks for classes of tokens, and uses them where a lexeme repeats
        one class of characters, except for a few texts of known length (which a counted repetition doesn't have). A
        lazy lexeme has no such mask. contrib/bench/masks.py measures it.
        """
        first = marker[0]
        if first in marker[1:] or any(map(self.is_token, self._markers.pieces(marker))):
            return self.until(marker)
        end = _quoted(marker) + _WHITESPACE_AFTER
        others = f"[^{_quoted(first)}]*"
        name = f"C{len(self._rules)}"
        self._rules.append(f"{name}: /{_slashed(_quoted(first) + others)}/ & ~/{_slashed(end)}/")
        return f"{self.regex(others)} {name}* {self.regex(end)}"

    def any_text(self) -> str:
        """Any text, including none."""
        return self.regex(_ANY_TEXT)

    def any_of(self, expressions: list[str]) -> str:
        """One of `expressions`."""
        return self.rule(" | ".join(expressions))

    def declare(self) -> str:
        """The name of a rule that `define` must define later, so that it can refer to itself."""
        name = f"d{len(self._rules)}"
        self._rules.append("")
        return name

    def define(self, name: str, expression: str) -> None:
        """Define a rule that `declare` named."""
        self._rules[int(name[1:])] = f"{name}: {expression}"

    def in_order(self, members: Sequence[tuple[str, bool]], separator: str) -> str:
        """The members in this order, with `separator` between those present; the flag says whether one is required."""
        after, first = "", ""
        for member, required in reversed(members):
            first_here, after_here = f"{member} {after}", f"{json.dumps(separator)} {member} {after}"
            first = self.rule(first_here if required else f"{first_here} | {first or _EMPTY}")
            after = self.rule(after_here if required else f"{after_here} | {after or _EMPTY}")
        return first

    def build(self, start: str) -> str:
        """The whole grammar, which begins with the expression `start`."""
        return "\n".join([f"start: {start}", *self._rules]) + "\n"


def _quoted(text: str) -> str:
    """A pattern for exactly `text`, inside a character class or outside of one."""
    return re.sub(r"[!-/:;=?@\[-`{-~]", r"\\\g<0>", text)


def _slashed(pattern: str) -> str:
    """`pattern` as it is written between slashes."""
    return re.sub(r"(?<!\\)/", r"\\/", pattern).replace("\n", r"\n")
