"""Finds the first marker in text or reasoning that has a meaning there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from cortex.engine.chat.formats.base import ToolFormat
from cortex.engine.chat.splitting.markers import MarkerTable, ReasoningFormat, is_encoded, partial_marker_length
from cortex.engine.chat.splitting.reader import WHITESPACE

__all__ = ["MarkerKind", "MarkerMatch", "MarkerScanner"]


class MarkerKind(Enum):
    REASONING_OPEN = auto()
    REASONING_CLOSE = auto()
    TRIGGER = auto()  # begins a tool-call block
    WRAPPER = auto()  # either end of a pair around plain answers


@dataclass(frozen=True, slots=True)
class MarkerMatch:
    """The first `position` characters are plain; a marker of `kind` follows.

    `kind` None: no marker yet, but the characters from `position` on may be the beginning of one.
    """

    position: int
    marker: str = ""
    kind: MarkerKind | None = None


class MarkerScanner:
    """Looks for markers in encoded text (see `MarkerTable`).

    An opening marker that isn't a token counts only where a segment begins, since text may mention `<think>`. The same
    holds for the closing end of a wrapper that wasn't opened.
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
        self._open_wrappers: set[str] = set()
        self._reasoning_kinds = self._kinds_in_reasoning()
        self._text_kinds = self._kinds_in_text()

    def first(self, text: str, in_reasoning: bool, *, at_start: bool, ended: bool, cut: bool) -> MarkerMatch:
        """The first marker in `text`. `at_start`: the segment is blank so far. `ended`: no input will follow; `cut`:
        because of a limit."""
        kinds, start_only = self._reasoning_kinds if in_reasoning else self._text_kinds
        if not text:
            return MarkerMatch(0)
        leading = len(text) - len(text.lstrip(WHITESPACE)) if at_start else -1
        found = [
            (position, -len(marker), marker)
            for marker in kinds
            if (position := _position(text, marker, leading if marker in start_only else None)) >= 0
        ]
        if not found:
            held = _cut_marker_length(text, [kind for kind in kinds if kind not in start_only]) if cut else 0
            if cut and at_start:
                held = max(held, _cut_marker_length(text[leading:], start_only, whole=True))
            return MarkerMatch(len(text) - (held if ended else partial_marker_length(text, kinds)))
        position, _, marker = min(found)
        tail = text[position:]
        if not ended and any(len(other) > len(tail) and other.startswith(tail) for other in kinds):
            return MarkerMatch(position)
        return MarkerMatch(position, marker, kinds[marker])

    def toggle_wrapper(self, marker: str) -> None:
        """Note one end of a wrapper: after an opening end, its closing end counts anywhere in the text."""
        for opener, closer in self._pairs:
            if marker == self._encode(opener):
                self._open_wrappers.add(opener)
            elif marker == self._encode(closer):
                self._open_wrappers.discard(opener)
        self._text_kinds = self._kinds_in_text()

    def _kinds_in_reasoning(self) -> tuple[dict[str, MarkerKind], set[str]]:
        """The markers that count in reasoning, and which of them count only at a segment's start."""
        if self._reasoning is None:
            return {}, set()
        kinds = {self._encode(trigger.text): MarkerKind.TRIGGER for trigger in self._triggers if not trigger.at_start}
        opener = self._encode(self._reasoning.open)
        kinds |= {opener: MarkerKind.REASONING_OPEN, self._encode(self._reasoning.close): MarkerKind.REASONING_CLOSE}
        return kinds, {opener}

    def _kinds_in_text(self) -> tuple[dict[str, MarkerKind], set[str]]:
        """Like `_kinds_in_reasoning`, for plain text."""
        kinds = {self._encode(trigger.text): MarkerKind.TRIGGER for trigger in self._triggers}
        start_only = {self._encode(trigger.text) for trigger in self._triggers if trigger.at_start}
        openers = [(self._reasoning.open, MarkerKind.REASONING_OPEN)] if self._reasoning and not self._frames else []
        if self._reasoning is not None and not self._frames:
            # Models that don't reason may still close what the prompt has closed already.
            kinds[self._encode(self._reasoning.close)] = MarkerKind.WRAPPER
            start_only.add(self._encode(self._reasoning.close))
        for opener, closer in self._pairs:
            openers.append((opener, MarkerKind.WRAPPER))
            kinds[self._encode(closer)] = MarkerKind.WRAPPER
            if opener not in self._open_wrappers and self._encode(closer) == closer:
                start_only.add(closer)
        for opener, kind in openers:
            kinds[self._encode(opener)] = kind
            if self._encode(opener) == opener:
                start_only.add(opener)
        return kinds, start_only


def _cut_marker_length(text: str, markers: Iterable[str], *, whole: bool = False) -> int:
    """The length of a marker's beginning at the end of `text`, 0 if there is none; `whole`: it must be all of `text`.

    It must hold a special token, or 5 characters, or half of the marker: an answer may well be cut behind `a <`.
    """
    length = partial_marker_length(text, markers)
    if whole and length < len(text):
        return 0
    tail = text[len(text) - length :]
    needed = min((len(marker) / 2 for marker in markers if marker.startswith(tail)), default=0.0)
    return length if is_encoded(tail) or length >= min(needed, 5) else 0


def _position(text: str, marker: str, leading: int | None) -> int:
    """Where `marker` stands, -1 if nowhere; `leading` given: only right after that many characters of whitespace.

    Whitespace that the marker itself begins with is part of these.
    """
    if leading is None:
        return text.find(marker)
    position = leading - (len(marker) - len(marker.lstrip(WHITESPACE)))
    return position if position >= 0 and text.startswith(marker, position) else -1
