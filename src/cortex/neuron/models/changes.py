"""Word that something may have changed in what the neuron holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Changes"]


class Changes:
    """Wakes whoever follows. Word of a change promises nothing: a follower looks for itself, so who is in doubt tells;
    the watchdog does once a second."""

    def __init__(self) -> None:
        self._followers: set[asyncio.Event] = set()

    def tell(self) -> None:
        for news in self._followers:
            news.set()

    @contextmanager
    def followed(self) -> Iterator[asyncio.Event]:
        """An event that is set at every word; the follower clears it."""
        news = asyncio.Event()
        self._followers.add(news)
        try:
            yield news
        finally:
            self._followers.discard(news)
