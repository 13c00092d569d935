"""What requests have to say to their clients since the last step."""

from __future__ import annotations

from cortex.engine.request.state import RequestState
from cortex.wire.events import Event
from cortex.wire.worker import Emission

__all__ = ["EventOutbox"]


class EventOutbox:
    """Gathered in the order it was said, taken once per step: one Emission per request."""

    def __init__(self) -> None:
        self._events: dict[str, list[Event]] = {}

    def __bool__(self) -> bool:
        return bool(self._events)

    def say(self, active: RequestState, events: list[Event]) -> None:
        self._events.setdefault(active.id, []).extend(events)

    def forget(self, request_id: str) -> None:
        """Its client has gone: nobody would hear it."""
        self._events.pop(request_id, None)

    def take(self) -> list[Emission]:
        events, self._events = self._events, {}
        return [Emission.of(request_id, said) for request_id, said in events.items()]
