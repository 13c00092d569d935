"""Finished responses kept for `previous_response_id` and `GET /v1/responses/{id}`: the contract and its memory form.

A stored response holds its whole conversation, so that one that has been dropped doesn't break those after it. In
memory the items are shared between the turns of a conversation, so only new ones take room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

__all__ = ["MemoryResponseStore", "ResponseStore", "StoredResponse", "deleted_reply"]


class StoredResponse(Struct, frozen=True):
    """One finished response. `items` are input and output items of the conversation so far, in order, as JSON;
    `body` is the response object as the client got it. Only `principal` may read it."""

    id: str
    created: int
    principal: str | None
    items: list[Raw]
    body: Raw

    @property
    def size(self) -> int:
        """Bytes of its JSON, as if it shared nothing."""
        return sum(memoryview(raw).nbytes for raw in (*self.items, self.body))


class ResponseStore(Protocol):
    """Bounded by number and age; what was dropped is simply not found."""

    async def get(self, response_id: str, principal: str | None) -> StoredResponse | None: ...
    async def put(self, response: StoredResponse) -> None: ...
    async def delete(self, response_id: str, principal: str | None) -> bool:
        """Whether there was one to delete."""
        ...


class MemoryResponseStore:
    """Keeps the `max_entries` responses used last, none longer than `max_age_s`. `now` in Unix seconds.

    `max_bytes` bounds the whole: clients that resend their history each time share nothing between turns.
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


class DeletedReply(Struct, frozen=True):
    id: str
    object: str = "response"
    deleted: bool = True


def deleted_reply(response_id: str) -> bytes:
    """The answer to `DELETE /v1/responses/{id}`."""
    return msgspec.json.encode(DeletedReply(response_id))
