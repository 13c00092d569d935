"""Which text each scored token belongs to: a token is sent with its last character. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgspec

from cortex.wire.events import TokenLogprob

__all__ = ["TokenScores"]


@dataclass(slots=True)
class _Scored:
    """`rest`: its characters that `forward` hasn't placed yet. `begin`, `end`: its place in the text, None before."""

    entry: TokenLogprob
    rest: str
    begin: int | None = None
    end: int = 0

    def placed(self, begin: int) -> TokenLogprob:
        return msgspec.structs.replace(self.entry, offset=begin if self.begin is None else self.begin)


class TokenScores:
    """The scored tokens of one choice that were not sent yet; `echoed` characters come before the choice's own text.

    Tokens are added with the characters that they completed. Not all of these become text: markers are removed, and
    text may be held back for several tokens. So `forward` is called with each piece of text that the tokens turned
    into, and `take` with the number of characters that are sent of it.
    """

    def __init__(self, echoed: int = 0) -> None:
        self._waiting: deque[_Scored] = deque()
        self._placed: deque[_Scored] = deque()
        self._forwarded = echoed
        self._sent = echoed

    def add(self, entry: TokenLogprob, text: str) -> None:
        """The next token, and the characters that it completed: "" if it ends inside one or is a control token."""
        self._waiting.append(_Scored(entry, text))

    def forward(self, text: str) -> None:
        """`text` is the next part of the choice's text. Tokens before those that it is made of have no text."""
        if not text:
            return
        held = "".join(scored.rest for scored in self._waiting)
        start, stop = _find(text, held)
        limit = self._forwarded + len(text)
        at, origin = 0, self._forwarded - start
        while self._waiting and at < stop:
            scored = self._waiting[0]
            end = at + len(scored.rest)
            if end > start or (at >= start and not scored.rest):
                scored.begin = min(origin + max(at, start), limit) if scored.begin is None else scored.begin
                scored.end = min(origin + max(end, at + 1), limit)
                if end > stop:
                    scored.rest = scored.rest[stop - at :]
                    break
                self._placed.append(scored)
            self._waiting.popleft()
            at = end
        self._forwarded = limit

    def take(self, count: int) -> list[TokenLogprob]:
        """The next `count` characters are sent: the tokens that end in them."""
        self._sent += count
        taken: list[TokenLogprob] = []
        while self._placed and self._placed[0].end <= self._sent:
            taken.append(self._placed.popleft().placed(self._sent))
        return taken

    def skip(self) -> None:
        """Something else than text was made of the tokens so far. The newest one may still have some."""
        while len(self._waiting) > 1:
            self._waiting.popleft()

    def cut(self) -> list[TokenLogprob]:
        """The text ends with the characters sent: the tokens that begin in them."""
        rest = [*self._placed, *self._waiting]
        return [scored.placed(0) for scored in rest if scored.begin is not None and scored.begin < self._sent]

    def finish(self, *, every: bool) -> list[TokenLogprob]:
        """The answer has ended: the tokens not sent yet.

        With `every` also those that made no text, else only such as end inside its last character.
        """
        placed = [scored.placed(0) for scored in self._placed]
        if not every and any(scored.rest for scored in self._waiting):
            return placed
        return placed + [scored.placed(self._forwarded) for scored in self._waiting]


def _find(text: str, held: str) -> tuple[int, int]:
    """Where `text` is in the characters of the waiting tokens: start and stop.

    The start is negative where `text` begins with characters of tokens that have no scores (replayed ones). Text that
    isn't a part of them belongs to all: a control token inside it was left out.
    """
    if held.endswith(text) or text.endswith(held):
        return len(held) - len(text), len(held)
    start = held.find(text)
    return (start, start + len(text)) if start >= 0 else (0, len(held))
