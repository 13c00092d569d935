"""Ids that clients see, derived from the request's own: pure, so a stream and its non-streamed twin agree."""

from __future__ import annotations

import hashlib

__all__ = ["make_id"]


def make_id(prefix: str, request_id: str, *parts: str | int) -> str:
    """`prefix` and 24 hex digits; the same request and parts always give the same id."""
    seed = "\x1f".join([prefix, request_id, *map(str, parts)])
    return prefix + hashlib.blake2b(seed.encode(), digest_size=12).hexdigest()
