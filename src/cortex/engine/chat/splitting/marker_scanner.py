"""Which markers count where, and the first of them in sight."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from cortex.engine.chat.formats.base import ReasoningFormat, ToolFormat
from cortex.engine.chat.splitting.markers import MarkerTable, held_back
from cortex.engine.chat.splitting.reader import BLANK

__all__ = ["Found", "Mark", "MarkerScanner"]


class Mark(Enum):
    OPEN = auto()
    CLOSE = auto()
    TRIGGER = auto()
    WRAPPER = auto()


@dataclass(frozen=True, slots=True)
class Found:
    """`place`: how much of the text is surely plain. `mark` None: nothing yet, the rest may still become a marker."""

    place: int
    marker: str = ""
    mark: Mark | None = None


class MarkerScanner:
    """Looks for markers in encoded text (see `MarkerTable`).

    An opener that is no token of its own counts only where a segment begins: a text may well mention `<think>`. So
    does the end of a wrapper that wasn't opened.
    """

    def __init__(
        self,
        markers: MarkerTable,
        reasoning: ReasoningFormat | None,
        tool_format: ToolFormat | None,
        active_format: ToolFormat | None,
    ) -> None:
        self._encode = markers.encode
        self._reasoning = reasoning
        self._frames = tool_format is not None and tool_format.frames
        self._triggers = active_format.triggers if active_format is not None else ()
        self._pairs = [*(reasoning.wrappers if reasoning else ()), *(tool_format.wrappers if tool_format else ())]
        self._unwrapped: set[str] = set()
        self._thought = self._in_thought()
        self._text, self._start_only = self._in_text()

    def first(self, text: str, in_thought: bool, *, at_start: bool, ended: bool) -> Found:
        """The first marker in `text`, or how much of it is surely none. `at_start`: the segment is blank so far."""
        if in_thought:
            watched, start_only = self._thought
        else:
            watched, start_only = self._text, self._start_only
        if not text:
            return Found(0)
        blank = len(text) - len(text.lstrip(BLANK)) if at_start else -1
        found = [
            (place, -len(marker), marker)
            for marker in watched
            if (place := _place(text, marker, blank if marker in start_only else None)) >= 0
        ]
        if not found:
            return Found(len(text) if ended else len(text) - held_back(text, watched))
        place, _, marker = min(found)
        tail = text[place:]
        if not ended and any(len(other) > len(tail) and other.startswith(tail) for other in watched):
            return Found(place)
        return Found(place, marker, watched[marker])

    def wrap(self, marker: str) -> None:
        """Note that a wrapper was met: its other end is expected from now on."""
        for opener, closer in self._pairs:
            if marker == self._encode(opener):
                self._unwrapped.add(opener)
            elif marker == self._encode(closer):
                self._unwrapped.discard(opener)
        self._text, self._start_only = self._in_text()

    def _in_thought(self) -> tuple[dict[str, Mark], set[str]]:
        if self._reasoning is None:
            return {}, set()
        watched = {self._encode(trigger.text): Mark.TRIGGER for trigger in self._triggers if not trigger.at_start}
        opener = self._encode(self._reasoning.open)
        watched |= {opener: Mark.OPEN, self._encode(self._reasoning.close): Mark.CLOSE}
        return watched, {opener}

    def _in_text(self) -> tuple[dict[str, Mark], set[str]]:
        watched = {self._encode(trigger.text): Mark.TRIGGER for trigger in self._triggers}
        start_only = {self._encode(trigger.text) for trigger in self._triggers if trigger.at_start}
        openers = [(self._reasoning.open, Mark.OPEN)] if self._reasoning and not self._frames else []
        if self._reasoning is not None and not self._frames:
            # Models that don't think may still close what the prompt has closed already.
            watched[self._encode(self._reasoning.close)] = Mark.WRAPPER
            start_only.add(self._encode(self._reasoning.close))
        for opener, closer in self._pairs:
            openers.append((opener, Mark.WRAPPER))
            watched[self._encode(closer)] = Mark.WRAPPER
            if opener not in self._unwrapped and self._encode(closer) == closer:
                start_only.add(closer)
        for opener, mark in openers:
            watched[self._encode(opener)] = mark
            if self._encode(opener) == opener:
                start_only.add(opener)
        return watched, start_only


def _place(text: str, marker: str, blank: int | None) -> int:
    """Where `marker` stands, -1 if nowhere; `blank` given: only at the end of that many leading blanks.

    Blanks that the marker itself begins with are some of these.
    """
    if blank is None:
        return text.find(marker)
    place = blank - (len(marker) - len(marker.lstrip(BLANK)))
    return place if place >= 0 and text.startswith(marker, place) else -1
