"""From token bytes to text that may be sent: whole characters only, nothing that may be part of a stop string. Pure."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

__all__ = ["StopMatcher", "Utf8Assembler"]


class Utf8Assembler:
    """Bytes in, whole characters out; bytes that aren't UTF-8 are dropped, not replaced by U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._pending = False

    @property
    def pending(self) -> bool:
        """Whether the last character is incomplete."""
        return self._pending

    def feed(self, piece: bytes) -> str:
        text = self._decoder.decode(piece)
        self._pending = bool(self._decoder.getstate()[0])
        return text


@dataclass(frozen=True, slots=True)
class _StopFound:
    start: int
    stop: str


class StopMatcher:
    """Holds back text that may be the start of a stop string; `hit` is the stop string that was found.

    The earliest match in the text counts; of two at the same place the one listed first. After a hit `feed` returns
    nothing.
    """

    def __init__(self, stops: list[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._longest = max((len(stop) for stop in self._stops), default=0)
        self._held = ""
        self.hit: str | None = None

    def feed(self, text: str) -> str:
        """The text that can be sent now."""
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
        """The text still held back: no stop string can follow."""
        return self._release(len(self._held))

    def _find(self) -> _StopFound | None:
        found = [_StopFound(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        return min(found, key=lambda stop: stop.start, default=None)

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
