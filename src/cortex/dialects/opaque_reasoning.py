"""Reasoning text in an opaque field, for protocols that carry it back to us without showing it.

Anthropic clients return a thinking block's `signature`, Responses clients a reasoning item's `encrypted_content`;
Codex drops the readable text on the way. Nothing is secret here: the text is the client's own.
"""

from __future__ import annotations

import base64
import binascii

__all__ = ["seal", "unseal"]

_PREFIX = "cortex1:"


def seal(text: str) -> str:
    """An opaque word, never empty: Zed drops thinking blocks whose signature is."""
    return _PREFIX + base64.b64encode(text.encode()).decode()


def unseal(sealed: str) -> str | None:
    """The text, or None if `sealed` was made elsewhere (another provider's turn in the same conversation)."""
    if not sealed.startswith(_PREFIX):
        return None
    try:
        return base64.b64decode(sealed.removeprefix(_PREFIX), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
