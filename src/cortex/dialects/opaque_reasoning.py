"""Reasoning text in an opaque field, for protocols whose clients return it to the server without showing it.

Anthropic clients return the `signature` of a thinking block, Responses clients the `encrypted_content` of a reasoning
item; Codex drops the readable text of that item (codex-rs/protocol/src/models.rs, should_serialize_reasoning_content).
The text is encoded, not encrypted: it belongs to the client.
"""

from __future__ import annotations

import base64
import binascii

__all__ = ["decode_opaque", "encode_opaque"]

_PREFIX = "cortex1:"


def encode_opaque(text: str) -> str:
    """The opaque form of `text`. Never empty: Zed drops a thinking block with an empty signature."""
    return _PREFIX + base64.b64encode(text.encode()).decode()


def decode_opaque(opaque: str) -> str | None:
    """The text, or None if `opaque` comes from another provider (of an earlier turn in the same conversation)."""
    if not opaque.startswith(_PREFIX):
        return None
    try:
        return base64.b64decode(opaque.removeprefix(_PREFIX), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
