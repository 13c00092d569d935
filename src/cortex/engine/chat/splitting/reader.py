"""Reading a block of markup that arrives in pieces, in code written as if it were complete.

Every reading method is a generator: it yields while it needs more input, and returns (or raises Malformed) once what
it read can no longer change. A parser therefore gives the same result wherever its input is cut.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator
from typing import TypeVar

from cortex.engine.chat.splitting.json_scanner import JsonScanner
from cortex.engine.chat.splitting.markers import MarkerTable, partial_marker_length

__all__ = ["WHITESPACE", "EndOfInput", "Malformed", "Reader", "Reading"]

T = TypeVar("T")
Reading = Generator[None, None, T]
"""A read in progress: yields when it needs more input, returns a T. A parser of a block is a `Reading[None]`."""

WHITESPACE = " \t\r\n"
_MAX_NAME = 256  # characters; longer than any tool name that an API accepts (OpenAI's limit is 64)


class Malformed(Exception):
    """The next input doesn't belong to the format."""


class EndOfInput(Malformed):
    """The input ended where the format requires more."""


class Reader:
    """The text of one block: what was read since the last commit, and what is still unread.

    Callers pass markers as the template writes them; `markers` encodes them as the model sends them. Text returned is
    encoded too.
    """

    def __init__(self, markers: MarkerTable) -> None:
        self.markers = markers
        self.ended = False  # set by the splitter: no input will follow
        self.cut = False  # set by the splitter: a limit ended the input
        # Whether what was read is markup beyond doubt, so that a cut drops it instead of returning it as text. Set by
        # the splitter for a block that a marker began, by parsers of blocks that begin like text.
        self.certain = False
        self._text = ""
        self._at = 0

    def push(self, text: str) -> None:
        """Append input."""
        self._text += text

    @property
    def pending(self) -> str:
        """Everything since the last commit, read or not."""
        return self._text

    @property
    def unread(self) -> str:
        return self._text[self._at :]

    def commit(self) -> None:
        """Drop what was read: its deltas were emitted, so it can't become plain text again."""
        self._text = self._text[self._at :]
        self._at = 0

    def more(self) -> Reading[None]:
        """Wait for more input. Raises EndOfInput if there won't be any."""
        if self.ended:
            raise EndOfInput
        yield

    def at_end(self) -> Reading[bool]:
        """Whether the input ends here."""
        while self._at == len(self._text):
            if self.ended:
                return True
            yield
        return False

    def peek(self) -> Reading[str]:
        """The next character, which stays unread."""
        while self._at == len(self._text):
            yield from self.more()
        return self._text[self._at]

    def skip_whitespace(self) -> Reading[None]:
        """Read whitespace up to something else, or to the end of the input."""
        while not (yield from self.at_end()) and self._text[self._at] in WHITESPACE:
            self._at += 1

    def take(self, *literals: str) -> Reading[str | None]:
        """Read the longest of `literals` that comes next; None, with nothing read, if none does. Raises EndOfInput if
        a limit cut one of them short."""
        wanted = {self.markers.encode(literal): literal for literal in literals}
        while True:
            rest = self._text[self._at :]
            unfinished = any(len(marker) > len(rest) and marker.startswith(rest) for marker in wanted)
            if not self.ended and unfinished:
                yield
                continue
            found = max((marker for marker in wanted if rest.startswith(marker)), key=len, default=None)
            if self.cut and unfinished and len(found or "") < len(rest):
                raise EndOfInput
            if found is None:
                return None
            self._at += len(found)
            return wanted[found]

    def follows(self, *literals: str) -> Reading[bool]:
        """Whether one of `literals`, or the end of the input, comes next after any whitespace; nothing is read.

        A literal that a limit cut short counts.
        """
        wanted = [self.markers.encode(literal) for literal in literals]
        while True:
            rest = self.unread.lstrip(WHITESPACE)
            if any(rest.startswith(marker) for marker in wanted):
                return True
            begun = any(marker.startswith(rest) for marker in wanted)
            if self.ended:
                return not rest or (self.cut and begun)
            if rest and not begun:
                return False
            yield

    def follows_pattern(self, whole: re.Pattern[str], beginning: re.Pattern[str]) -> Reading[bool]:
        """Whether `whole`, or the end of the input, comes next after any whitespace; nothing is read.

        `beginning` must match every text that may still become `whole`.
        """
        while True:
            rest = self.unread.lstrip(WHITESPACE)
            if whole.match(rest):
                return True
            begun = beginning.fullmatch(rest) is not None
            if self.ended or not begun:
                return self.ended and (not rest or (self.cut and begun))
            yield

    def expect(self, *literals: str) -> Reading[str]:
        """Like `take`, but raises Malformed (EndOfInput at the end) if none of `literals` comes next."""
        found = yield from self.take(*literals)
        if found is None:
            raise EndOfInput if self.ended and self._at == len(self._text) else Malformed
        return found

    def until(self, *stops: str, limit: int | None = None) -> Reading[tuple[str, str]]:
        """The text before the first of `stops`, and that stop, which is read too; Malformed past `limit` characters."""
        parts: list[str] = []
        while True:
            part, stop = yield from self.part(*stops)
            parts.append(part)
            if limit is not None and sum(map(len, parts)) > limit:
                raise Malformed
            if stop is not None:
                return "".join(parts), stop

    def part(self, *stops: str) -> Reading[tuple[str, str | None]]:
        """Like `until`, but returns what is there at once, with None in place of a stop that hasn't come yet."""
        wanted = {self.markers.encode(stop): stop for stop in stops}
        while True:
            rest = self._text[self._at :]
            places = [(place, -len(marker), marker) for marker in wanted if (place := rest.find(marker)) >= 0]
            if places and not self._longer_possible(rest, min(places), wanted):
                place, _, marker = min(places)
                self._at += place + len(marker)
                return rest[:place], wanted[marker]
            safe = len(rest) - partial_marker_length(rest, wanted) if not places else min(places)[0]
            if safe:
                self._at += safe
                return rest[:safe], None
            yield from self.more()

    def before(self, stop: str) -> Reading[tuple[str, bool]]:
        """Like `part`, but leaves the stop unread; the flag says whether it comes next."""
        text, found = yield from self.part(stop)
        if found is not None:
            self._at -= len(self.markers.encode(stop))
        return text, found is not None

    def _longer_possible(self, rest: str, found: tuple[int, int, str], wanted: dict[str, str]) -> bool:
        """Whether more input could make a longer stop begin where `found` does."""
        if self.ended:
            return False
        tail = rest[found[0] :]
        return any(len(marker) > len(tail) and marker.startswith(tail) for marker in wanted)

    def name(self, *stops: str) -> Reading[tuple[str, str]]:
        """A name up to one of `stops`, without surrounding whitespace, and that stop."""
        name, stop = yield from self.until(*stops, limit=_MAX_NAME)
        return name.strip(WHITESPACE), stop

    def known_name(self, names: Collection[str], stop: str) -> Reading[str]:
        """One of `names` up to `stop`, without surrounding whitespace. Raises Malformed once it can be none of them.

        What begins like a name shows that the block is markup (`certain`).
        """
        written = ""
        while True:
            part, found = yield from self.part(stop)
            written += part
            name = self.markers.decode(written).strip(WHITESPACE)
            if not any(known.startswith(name) for known in names):
                raise Malformed
            self.certain = self.certain or bool(name)
            if found is not None:
                return name

    def json_part(self, scanner: JsonScanner) -> Reading[str]:
        """Read what is there of `scanner`'s value: at least one character, or "" once the value is complete."""
        while not scanner.complete:
            if self._at == len(self._text) and self.ended and scanner.finish():
                break
            passed, used = scanner.feed(self._text[self._at :])
            self._at += used
            if used:
                return passed
            if scanner.complete:
                break
            if scanner.broken:
                raise Malformed
            yield from self.more()
        return ""

    def json_text(self) -> Reading[str]:
        """One whole JSON value as text."""
        scanner, parts = JsonScanner(), list[str]()
        while not scanner.complete:
            parts.append((yield from self.json_part(scanner)))
        return "".join(parts)
