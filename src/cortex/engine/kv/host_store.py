"""Prefixes that had to leave the KV pool, kept in host RAM: bookkeeping only, the states are opaque bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np

from cortex.engine.scheduling.sequence import Int32Array, Sequence, TokenBuffer

__all__ = ["HostStore", "SavedPrefix", "Stored"]

_LEAST_TOKENS = 64
"""Shorter prefixes are computed faster than they are moved."""


class SavedPrefix(msgspec.Struct, frozen=True):
    """A prefix as it is written to disk; `state` is what llama.cpp gave for the sequence."""

    tokens: list[int]
    state: bytes
    principal: str | None = None
    hashes: list[int] = []


@dataclass(slots=True, eq=False)
class Stored:
    """One prefix. The buffer holds exactly the tokens that `state` covers."""

    tokens: TokenBuffer
    state: bytes
    principal: str | None
    hashes: list[int] = field(default_factory=list)
    last_used: int = 0

    @property
    def length(self) -> int:
        return len(self.tokens)


class HostStore:
    """At most `budget_bytes` of states, the one used longest ago goes first."""

    def __init__(self, budget_bytes: int, *, isolate: bool = False) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._isolate = isolate
        self._stored: list[Stored] = []
        self._clock = 0
        self._bytes_per_token = 0.0

    def __iter__(self) -> Iterator[Stored]:
        return iter(self._stored)

    def wants(self, tokens: Int32Array, principal: str | None) -> bool:
        """Whether a prefix leaving the pool is worth keeping: long enough, and not here already."""
        if not self.budget_bytes or len(tokens) < _LEAST_TOKENS:
            return False
        return not any(
            stored.principal == principal and stored.tokens.common_prefix(tokens, len(tokens)) == len(tokens)
            for stored in self._stored
        )

    def has_room(self, tokens: int) -> bool:
        """Whether a prefix of so many tokens would be kept without another one going, judged by the last one kept."""
        if not self.budget_bytes or tokens < _LEAST_TOKENS:
            return False
        return self.used_bytes + tokens * self._bytes_per_token <= self.budget_bytes

    def add(self, tokens: Int32Array, state: bytes, principal: str | None, hashes: list[int]) -> None:
        """Keep `state`; what it makes superfluous and what no longer fits goes."""
        for stored in list(self._stored):
            if stored.principal == principal and stored.tokens.common_prefix(tokens, stored.length) == stored.length:
                self.remove(stored)
        self._bytes_per_token = len(state) / len(tokens)
        if len(state) > self.budget_bytes:
            return
        self._clock += 1
        self._stored.append(Stored(TokenBuffer(np.array(tokens)), state, principal, hashes, self._clock))
        self.used_bytes += len(state)
        while self.used_bytes > self.budget_bytes:
            self.remove(min(self._stored, key=lambda stored: stored.last_used))

    def best_match(self, sequence: Sequence, *, whole: bool) -> tuple[Stored, int] | None:
        """The prefix that shares most with `sequence` and how much; `whole`: only one that is shared in full."""
        if not sequence.share:
            return None
        tokens = sequence.tokens.view()
        best: tuple[Stored, int] | None = None
        for stored in self._stored:
            if self._isolate and stored.principal != sequence.principal:
                continue
            common = sequence.tokens.boundary(stored.tokens.common_prefix(tokens, len(tokens) - 1))
            if whole and common < stored.length:
                continue
            if common >= _LEAST_TOKENS and common > (best[1] if best else 0):
                best = stored, common
        return best

    def touch(self, stored: Stored) -> None:
        self._clock += 1
        stored.last_used = self._clock

    def remove(self, stored: Stored) -> None:
        if stored in self._stored:
            self._stored.remove(stored)
            self.used_bytes -= len(stored.state)
