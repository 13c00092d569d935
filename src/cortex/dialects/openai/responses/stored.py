"""What is stored of a finished response, for `previous_response_id` and `GET /v1/responses/{id}`."""

from __future__ import annotations

from msgspec import Raw, Struct

__all__ = ["StoredResponse"]


class StoredResponse(Struct, frozen=True):
    """One finished response. Only `principal` may read it.

    `created` in Unix seconds. `items` are the JSON input and output items of the whole conversation so far, in order,
    so that a later response doesn't need the earlier ones; `body` is the response object that the client got.
    """

    id: str
    created: int
    principal: str | None
    items: list[Raw]
    body: Raw

    @property
    def size(self) -> int:
        """Bytes of its JSON, items shared with other responses included."""
        return sum(memoryview(raw).nbytes for raw in (*self.items, self.body))
