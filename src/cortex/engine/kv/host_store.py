"""Prefixes that were dropped from the KV pool, kept in host RAM. Pure: the states are opaque bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cortex.engine.kv.tokens import Int32Array, TokenBuffer

__all__ = ["HostStore", "StoredPrefix"]

_LEAST_TOKENS = 64
"""Shorter prefixes are computed faster than their state is copied. A bound chosen by judgement, not measured."""


@dataclass(slots=True, eq=False)
class StoredPrefix:
    """One prefix; `state` is what llama.cpp wrote for exactly these tokens (llama_state_seq_get_data)."""

    tokens: TokenBuffer
    state: bytes
    principal: str | None
    hashes: list[int] = field(default_factory=list)
    last_used: int = 0

    @property
    def length(self) -> int:
        return len(self.tokens)


class HostStore:
    """At most `budget_bytes` of states; the one used longest ago is removed first.

    `isolate`: a prefix is found only for the principal it was stored for.
    """

    def __init__(self, budget_bytes: int, *, isolate: bool = False) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._isolate = isolate
        self._stored: list[StoredPrefix] = []
        self._clock = 0
        self._bytes_per_token = 0.0

    def __iter__(self) -> Iterator[StoredPrefix]:
        return iter(self._stored)

    def wants(self, tokens: Int32Array, principal: str | None) -> bool:
        """Whether a prefix dropped from the pool is worth storing: long enough, and not stored already."""
        if not self.budget_bytes or len(tokens) < _LEAST_TOKENS:
            return False
        return not any(
            stored.principal == principal and stored.tokens.common_prefix(tokens, len(tokens)) == len(tokens)
            for stored in self._stored
        )

    def has_room(self, tokens: int) -> bool:
        """Whether a prefix of `tokens` tokens fits without removing another, at the last one's bytes per token."""
        if not self.budget_bytes or tokens < _LEAST_TOKENS:
            return False
        return self.used_bytes + tokens * self._bytes_per_token <= self.budget_bytes

    def add(self, tokens: Int32Array, state: bytes, principal: str | None, hashes: list[int]) -> None:
        """Store `state`; remove the prefixes that `tokens` contains and, by age, those that no longer fit."""
        for stored in list(self._stored):
            if stored.principal == principal and stored.tokens.common_prefix(tokens, stored.length) == stored.length:
                self.remove(stored)
        self._bytes_per_token = len(state) / len(tokens)
        if len(state) > self.budget_bytes:
            return
        self._clock += 1
        self._stored.append(StoredPrefix(TokenBuffer(np.array(tokens)), state, principal, hashes, self._clock))
        self.used_bytes += len(state)
        while self.used_bytes > self.budget_bytes:
            self.remove(min(self._stored, key=lambda stored: stored.last_used))

    def best_match(self, tokens: TokenBuffer, principal: str | None, *, whole: bool) -> tuple[StoredPrefix, int] | None:
        """The prefix that shares most with `tokens`, and how many tokens that are.

        `whole`: only a prefix that is shared in full (memory that can't be truncated).
        """
        wanted = tokens.view()
        best: tuple[StoredPrefix, int] | None = None
        for stored in self._stored:
            if self._isolate and stored.principal != principal:
                continue
            common = tokens.boundary(stored.tokens.common_prefix(wanted, len(wanted) - 1))
            if whole and common < stored.length:
                continue
            if common >= _LEAST_TOKENS and common > (best[1] if best else 0):
                best = stored, common
        return best

    def touch(self, stored: StoredPrefix) -> None:
        """Note that `stored` was used now."""
        self._clock += 1
        stored.last_used = self._clock

    def remove(self, stored: StoredPrefix) -> None:
        if stored in self._stored:
            self._stored.remove(stored)
            self.used_bytes -= len(stored.state)
