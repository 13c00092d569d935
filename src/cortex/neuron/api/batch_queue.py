"""Between whoever makes events, in callbacks, and whoever writes them, in a task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

__all__ = ["Outbox"]

T = TypeVar("T")


class Outbox(Generic[T]):
    """Items on their way to a slower writer: all that were put since its last look leave as one batch."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._news = asyncio.Event()
        self._closed = False

    def put(self, item: T) -> None:
        self._items.append(item)
        self._news.set()

    def close(self) -> None:
        """`batches` ends when it has given everything."""
        self._closed = True
        self._news.set()

    async def batches(self) -> AsyncGenerator[list[T], None]:
        while self._items or not self._closed:
            await self._news.wait()
            self._news.clear()
            if self._items:
                items, self._items = self._items, []
                yield items
