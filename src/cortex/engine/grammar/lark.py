"""Builds grammars in llguidance's Lark dialect; markers become special tokens where the vocabulary has them.

Syntax: llguidance, docs/syntax.md (`<[id]>` a token, `%json`, `[suffix=…]`, `&` and `~` on terminals).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from cortex.engine.chat.splitting.markers import MarkerTable
from cortex.wire.inference import JsonSchema

__all__ = ["LarkBuilder", "quoted", "slashed"]

_EMPTY = '""'
_PARAMETER_BITS = 60  # of 64 that a rule's parameter has
_ANY_TEXT = "(?s:.*)"
_BLANKS = r"[ \t\r\n]*"


class LarkBuilder:
    """Collects rules. Expressions are strings, which `rule`, `any_of`, `in_order` and `build` combine."""

    def __init__(self, markers: MarkerTable) -> None:
        self._markers = markers
        self._rules: list[str] = []
        self._terminals: dict[str, str] = {}  # names by expression

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

    def regex(self, pattern: str, *, unlike: Sequence[str] = ()) -> str:
        """A terminal for `pattern`, in the syntax of Rust's regex crate, without texts that match one of `unlike`."""
        expression = " & ~".join(f"/{slashed(part)}/" for part in (pattern, *unlike))
        if expression not in self._terminals:
            self._terminals[expression] = name = f"R{len(self._rules)}"
            self._rules.append(f"{name}: {expression}")
        return self._terminals[expression]

    def whitespace(self) -> str:
        """Up to three spaces or line breaks, where parsers skip them and templates of one family differ."""
        return self.regex("[ \\n]{0,3}")

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

    def raw_until(self, marker: str, following: Sequence[str]) -> str:
        """Any text up to and including the first `marker` that one of `following` comes after, past whitespace:
        elsewhere the marker is text.

        Cheaper than `until`: llguidance precomputes masks for classes of tokens, and uses them where a lexeme repeats
        one class of characters. A lazy lexeme has no such mask. contrib/bench/masks.py measures it.
        """
        if any(map(self.is_token, self._markers.pieces(marker))):
            # Where text may follow, text and tags would be one terminal to llguidance, which takes the longest.
            repeats = all(map(self._begins_with_token, [marker, *following]))
            return f"({self.until(marker)})+" if repeats else self.until(marker)
        first = marker[0]
        if first in marker[1:] or any(text[0] != first and not self._begins_with_token(text) for text in following):
            return self.until(marker)
        # Pieces that begin with the marker's first character and have no other: tags, and the text after each.
        others = f"[^{quoted(first)}]*"
        end = quoted(marker) + _BLANKS
        piece = self.regex(quoted(first) + others, unlike=[end])
        tags = [f"{quoted(text)}{others}" for text in following if not self._begins_with_token(text)]
        text = self.regex(quoted(first) + others, unlike=[end, *tags])
        end = self.regex(end)
        return f"{self.regex(others)} ({piece} | {end}+ {text})* {end}+"

    def pattern_until(self, pattern: str, marker: str) -> str:
        """Text that matches the regex `pattern` and doesn't contain `marker`, up to and including `marker`."""
        pieces = self._markers.pieces(marker)
        first = next((place for place, piece in enumerate(pieces) if self.is_token(piece)), len(pieces))
        text, rest = "".join(pieces[:first]), "".join(pieces[first:])
        # One terminal with the marker: an open-ended pattern would read over the marker's first characters.
        closed = [f"(?s:.*){quoted(text.lstrip())}(?s:.+)"] if text.strip() else []
        terminal = self.regex(f"(?:{pattern}){quoted(text)}", unlike=closed)
        return f"{terminal} {self.literal(rest)}" if rest else terminal

    def _begins_with_token(self, text: str) -> bool:
        return self._markers.is_token(self._markers.pieces(text)[0])

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

    def define(self, name: str, expression: str, *, parameter: str = "") -> None:
        """Define a rule that `declare` named; `parameter` is `::_` for one that has a parameter."""
        self._rules[int(name[1:])] = f"{name}{parameter}: {expression}"

    def in_order(self, members: Sequence[tuple[str, bool]], separator: str) -> str:
        """The members in this order, with `separator` between those present; the flag says whether one is required."""
        after, first = "", ""
        for member, required in reversed(members):
            first_here, after_here = f"{member} {after}", f"{json.dumps(separator)} {member} {after}"
            first = self.rule(first_here if required else f"{first_here} | {first or _EMPTY}")
            after = self.rule(after_here if required else f"{after_here} | {after or _EMPTY}")
        return first

    def repeated(self, item: str, separator: str, least: object = None, most: object = None) -> str:
        """`item` from `least` to `most` times (None: no limit), with `separator` between."""
        low, high = (int(limit) if isinstance(limit, int | float) else None for limit in (least, most))
        if high is not None and high <= 0:
            return _EMPTY
        further = f"({separator} {item}){{{max(0, (low or 0) - 1)},{'' if high is None else high - 1}}}"
        return f"{item} {further}" if low else f"({item} {further})?"

    def any_order(self, members: Sequence[tuple[str, bool]], separator: str = "", more: str = "") -> str:
        """The members in any order, each at most once, with the expression `separator` between those present.

        The flag says whether a member is required. `more`: a further member that may come any number of times.
        Source: llguidance, docs/parametric.md (the parameter's bits are the members seen so far). Members beyond
        the parameter's bits may come any number of times.
        """
        if not members:
            return f"({more} ({separator} {more})*)?" if more else _EMPTY
        ordered = sorted(members, key=lambda member: not member[1])
        counted, rest = ordered[:_PARAMETER_BITS], [member for member, _ in ordered[_PARAMETER_BITS:]]
        required = sum(needed for _, needed in counted)
        later = self.declare()
        end = f'"" %if is_ones([0:{required}])' if required else _EMPTY

        def alternatives(before: str) -> list[str]:
            found = [
                f"{before} {member} {later}::set_bit({bit}) %if bit_clear({bit})"
                for bit, (member, _) in enumerate(counted)
            ]
            return [*found, *(f"{before} {member} {later}::_" for member in [*rest, *([more] if more else [])])]

        self.define(later, " | ".join([end, *alternatives(separator)]), parameter="::_")
        if not separator:
            return f"{later}::0"
        first = self.declare()
        self.define(first, " | ".join([end, *alternatives("")]), parameter="::_")
        return f"{first}::0"

    def build(self, start: str) -> str:
        """The whole grammar, which begins with the expression `start`."""
        return "\n".join([f"start: {start}", *self._rules]) + "\n"


def quoted(text: str) -> str:
    """A pattern for exactly `text`, inside a character class or outside of one."""
    return re.sub(r"[!-/:;=?@\[-`{-~]", r"\\\g<0>", text)


def slashed(pattern: str) -> str:
    """`pattern` as it is written between slashes."""
    return re.sub(r"(?<!\\)/", r"\\/", pattern).replace("\n", r"\n")
