"""The events of an engine's requests since its last step."""

from __future__ import annotations

from collections.abc import Iterable

from cortex.wire.events import Event
from cortex.wire.worker import Emission

__all__ = ["EventOutbox"]


class EventOutbox:
    """Events per request, in order; `take` is called once per step and gives one Emission per request."""

    def __init__(self) -> None:
        self._events: dict[str, list[Event]] = {}

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, request_id: str, *events: Event) -> None:
        self.extend(request_id, events)

    def extend(self, request_id: str, events: Iterable[Event]) -> None:
        self._events.setdefault(request_id, []).extend(events)

    def drop(self, request_id: str) -> None:
        """Drop a request's events: its client has gone."""
        self._events.pop(request_id, None)

    def take(self) -> list[Emission]:
        """Everything that was added since the last call."""
        taken, self._events = self._events, {}
        return [Emission.of(request_id, events) for request_id, events in taken.items()]
