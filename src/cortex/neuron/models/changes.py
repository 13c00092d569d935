"""Notification that the neuron's state may have changed."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Changes"]


class Changes:
    """Calls every subscriber. A hint only: subscribers re-read the state, so spurious notifications are harmless, and
    the watchdog sends one each second. Event loop's thread only."""

    def __init__(self) -> None:
        self._subscribers: set[Callable[[], None]] = set()

    def tell(self) -> None:
        for subscriber in list(self._subscribers):
            subscriber()

    def subscribe(self, subscriber: Callable[[], None]) -> None:
        """`subscriber` must not block or raise."""
        self._subscribers.add(subscriber)

    def unsubscribe(self, subscriber: Callable[[], None]) -> None:
        self._subscribers.discard(subscriber)
