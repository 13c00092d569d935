"""Ids in answers, derived from the request id alone: the streamed and the non-streamed answer get equal ids."""

from __future__ import annotations

import hashlib

__all__ = ["make_id"]


def make_id(prefix: str, request_id: str, *parts: str | int) -> str:
    """`prefix` followed by 24 hex digits; equal arguments give equal ids."""
    seed = "\x1f".join([prefix, request_id, *map(str, parts)])
    return prefix + hashlib.blake2b(seed.encode(), digest_size=12).hexdigest()
