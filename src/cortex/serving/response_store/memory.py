"""The store of finished responses: its interface, and the implementation in memory.

In memory the items of a conversation are shared between its responses, so a response takes room for its new items only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from cortex.dialects.openai.responses.stored import StoredResponse

__all__ = ["MemoryResponseStore", "ResponseStore"]


class ResponseStore(Protocol):
    """Keeps finished responses, limited in number and age. A response that was dropped counts as not found.

    A response is found and deleted only by the principal it was stored for.
    """

    async def get(self, response_id: str, principal: str | None) -> StoredResponse | None: ...
    async def put(self, response: StoredResponse) -> None: ...
    async def delete(self, response_id: str, principal: str | None) -> bool:
        """Returns whether there was a response to delete."""
        ...


class MemoryResponseStore:
    """Keeps the `max_entries` responses that were used last, each for at most `max_age_s`. `now` returns Unix seconds.

    `max_bytes` limits the JSON of all responses together, without regard to sharing: responses to clients that resend
    their whole history with every request share no items.
    """

    def __init__(
        self, max_entries: int, max_age_s: float, now: Callable[[], float], max_bytes: int = 256 * 1024 * 1024
    ) -> None:
        self._max_entries = max_entries
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._now = now
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()
        self._bytes = 0

    async def get(self, response_id: str, principal: str | None) -> StoredResponse | None:
        found = self._responses.get(response_id)
        if found is None or found.principal != principal:
            return None
        if found.created < self._now() - self._max_age_s:
            self._drop(response_id)
            return None
        self._responses.move_to_end(response_id)
        return found

    async def put(self, response: StoredResponse) -> None:
        self._drop(response.id)
        if response.size > self._max_bytes:
            return
        self._responses[response.id] = response
        self._bytes += response.size
        while len(self._responses) > self._max_entries or self._bytes > self._max_bytes:
            self._drop(next(iter(self._responses)))

    async def delete(self, response_id: str, principal: str | None) -> bool:
        if await self.get(response_id, principal) is None:
            return False
        self._drop(response_id)
        return True

    def _drop(self, response_id: str) -> None:
        dropped = self._responses.pop(response_id, None)
        if dropped is not None:
            self._bytes -= dropped.size
