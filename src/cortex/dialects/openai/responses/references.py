"""What a Responses request refers to in the store: an earlier response, and single items of earlier responses.

The AI SDK's OpenAI provider sends an `item_reference` for each item of the earlier steps by default. Its shape:
ItemReference in openai's Python SDK 3.54, `types/responses/response_input_item_param.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw, Struct

from cortex.dialects.json_body import decode_body
from cortex.errors import BadRequest

__all__ = ["Wanted", "resolved", "wanted"]


class WantedBody(Struct, frozen=True):
    previous_response_id: str | None = None
    input: str | list[Raw] | None = None


class ItemHead(Struct, frozen=True):
    """The fields that tell an `item_reference`, whose type may be left out."""

    type: Any = None
    role: Any = None
    id: Any = None

    @property
    def reference(self) -> str | None:
        if self.type == "item_reference":
            return self.id if isinstance(self.id, str) else ""
        return self.id if self.type is None and self.role is None and isinstance(self.id, str) else None


_WANTED = msgspec.json.Decoder(WantedBody)
_HEAD = msgspec.json.Decoder(ItemHead)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request needs of the store: the response that it continues, and the ids of items, in their order."""

    previous: str | None
    items: list[str]


def wanted(body: bytes) -> Wanted:
    """What `parse_responses` needs of the store for this request. Raises BadRequest."""
    decoded = decode_body(_WANTED, body)
    items = decoded.input if isinstance(decoded.input, list) else []
    return Wanted(decoded.previous_response_id, [name for raw in items if (name := _reference(raw)) is not None])


def resolved(items: Iterable[Raw], referenced: Mapping[str, Raw]) -> list[Raw]:
    """The items, copied, with the stored items in place of references. Raises BadRequest for an unknown one."""
    found: list[Raw] = []
    for raw in items:
        name = _reference(raw)
        if name is not None and name not in referenced:
            raise BadRequest(f"item {name!r} is not stored here (any more): send the item itself", param="input")
        found.append(raw.copy() if name is None else referenced[name])
    return found


def _reference(raw: Raw) -> str | None:
    """The id of the item that this one stands for; None for an item itself."""
    try:
        return _HEAD.decode(raw).reference
    except msgspec.MsgspecError:
        return None  # not an object, or half an emoji: reading the item says which
