"""From tokens to text that may be sent: whole characters only, and nothing that may become a stop string."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

__all__ = ["StopMatcher", "Utf8Assembler"]


class Utf8Assembler:
    """Bytes in, whole characters out; bytes that never become a character are dropped, not shown as U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._pending = False

    @property
    def pending(self) -> bool:
        """Whether a character is begun but not complete."""
        return self._pending

    def feed(self, piece: bytes) -> str:
        text = self._decoder.decode(piece)
        self._pending = bool(self._decoder.getstate()[0])
        return text


@dataclass(frozen=True, slots=True)
class _Hit:
    start: int
    stop: str


class StopMatcher:
    """Holds back what may be the start of a stop string; `hit` names the one that was found.

    The earliest match in the text wins; of two at the same place the one listed first. After a hit nothing more
    comes out.
    """

    def __init__(self, stops: list[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._longest = max((len(stop) for stop in self._stops), default=0)
        self._held = ""
        self.hit: str | None = None

    def feed(self, text: str) -> str:
        """What of the text so far is safe to send now."""
        if not self._stops:
            return text
        if self.hit is not None:
            return ""
        self._held += text
        if found := self._find():
            self.hit = found.stop
            return self._release(found.start, drop_rest=True)
        return self._release(len(self._held) - self._partial())

    def finish(self) -> str:
        """What was held back and turned out to be no stop string."""
        return self._release(len(self._held))

    def _find(self) -> _Hit | None:
        hits = [_Hit(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        return min(hits, key=lambda hit: hit.start, default=None)

    def _partial(self) -> int:
        """Length of the longest tail that is a proper prefix of a stop string."""
        for length in range(min(self._longest - 1, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int, *, drop_rest: bool = False) -> str:
        text, self._held = self._held[:length], "" if drop_rest else self._held[length:]
        return text
