"""Reasoning inside the text, between `<think>` tags: llama.cpp's `reasoning_format: "none"`.

Source: llama.cpp `tools/server/README.md`, `reasoning_format`.
"""

from __future__ import annotations

from collections.abc import Sequence

from cortex.dialects.base import Collector, StreamRenderer
from cortex.errors import CortexError
from cortex.wire.events import Event, ReasoningDelta, TextDelta, ToolCallStart

__all__ = ["InlineCollector", "InlineRenderer"]

_OPEN, _CLOSE = "<think>\n", "\n</think>\n\n"


class _Converter:
    """Turns reasoning deltas into text deltas. Reasoning that never ends gets no closing tag."""

    def __init__(self) -> None:
        self._thinking: set[int] = set()

    def convert(self, events: Sequence[Event]) -> list[Event]:
        converted: list[Event] = []
        for event in events:
            if isinstance(event, ReasoningDelta):
                opening = "" if event.choice in self._thinking else _OPEN
                self._thinking.add(event.choice)
                converted.append(TextDelta(opening + event.text, event.choice))
                continue
            if isinstance(event, TextDelta | ToolCallStart) and event.choice in self._thinking:
                self._thinking.remove(event.choice)
                converted.append(TextDelta(_CLOSE, event.choice))
            converted.append(event)
        return converted


class InlineRenderer:
    """A StreamRenderer that feeds the converted events to another one."""

    def __init__(self, renderer: StreamRenderer) -> None:
        self._renderer = renderer
        self._converter = _Converter()

    def feed(self, part: int, events: Sequence[Event]) -> bytes:
        return self._renderer.feed(part, self._converter.convert(events))

    def keepalive(self) -> bytes:
        return self._renderer.keepalive()

    def fail(self, error: CortexError) -> bytes:
        return self._renderer.fail(error)


class InlineCollector:
    """A Collector that feeds the converted events to another one."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._converter = _Converter()

    def feed(self, part: int, events: Sequence[Event]) -> None:
        self._collector.feed(part, self._converter.convert(events))

    def finish(self) -> bytes:
        return self._collector.finish()
