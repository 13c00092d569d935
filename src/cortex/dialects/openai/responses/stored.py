"""What is stored of a finished response, for `previous_response_id` and `GET /v1/responses/{id}`."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Raw, Struct

__all__ = ["StoredResponse", "item_id", "response_of"]

_ITEM_ID = re.compile(r"[a-z]+_([0-9a-f]{24})[0-9a-f]{4}")


class ItemId(Struct, frozen=True):
    id: Any = None


_ID = msgspec.json.Decoder(ItemId)


def item_id(prefix: str, response_id: str, index: int) -> str:
    """The id of an output item. It holds the response's id, so that a reference to the item finds its response."""
    return f"{prefix}{response_id.removeprefix('resp_')}{index:04x}"


def response_of(item: str) -> str | None:
    """The id of the response that an item of ours is from; None for the id of another server."""
    found = _ITEM_ID.fullmatch(item)
    return f"resp_{found[1]}" if found else None


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

    def items_with(self, ids: Collection[str]) -> dict[str, Raw]:
        """The items that have these ids, by id."""
        named = ((_ID.decode(raw).id, raw) for raw in self.items)
        return {name: raw for name, raw in named if isinstance(name, str) and name in ids}
