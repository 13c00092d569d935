"""Which copy of a model already holds how much of a conversation. Pure.

Neurons publish the hashes of the prefixes whose KV they hold (`wire.prefix`), as of their last status. What was sent to
a copy since then is added for `_BELIEVED_S`, so that a burst of requests with one prefix goes to one neuron before any
status shows it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from cortex.wire.status import ModelStatus

__all__ = ["CopyKey", "PrefixIndex"]

_BELIEVED_S = 5.0
"""Seconds: longer than a busy neuron's status interval and a usual prefill. After that only its status counts."""


class CopyKey(Struct, frozen=True):
    """One load of one model: another boot or another load is another copy with an empty cache."""

    neuron: str
    boot: str
    model: str
    loaded_at: float = 0.0


class PrefixIndex:
    """Changed by the scheduler alone."""

    def __init__(self) -> None:
        self._published: dict[CopyKey, frozenset[int]] = {}
        self._sent: dict[CopyKey, dict[int, float]] = {}

    def publish(self, copy: CopyKey, status: ModelStatus) -> None:
        """Replace what the copy holds by what its neuron says."""
        self._published[copy] = frozenset(status.prefix_hashes)

    def sent(self, copy: CopyKey, hashes: Sequence[int], now: float) -> None:
        """Record that a request with these prefixes was granted to `copy`, which will hold them soon."""
        fresh = {known: at for known, at in self._sent.get(copy, {}).items() if now - at < _BELIEVED_S}
        self._sent[copy] = fresh | dict.fromkeys(hashes, now)

    def overlap(self, copy: CopyKey, hashes: Sequence[int], now: float) -> int:
        """How many leading blocks of a request, by their `hashes`, `copy` holds."""
        published, sent = self._published.get(copy, frozenset()), self._sent.get(copy, {})
        for position, prefix in enumerate(hashes):
            if prefix not in published and now - sent.get(prefix, float("-inf")) >= _BELIEVED_S:
                return position
        return len(hashes)

    def keep_only(self, copies: set[CopyKey]) -> None:
        """Drop every other copy."""
        self._published = {copy: known for copy, known in self._published.items() if copy in copies}
        self._sent = {copy: known for copy, known in self._sent.items() if copy in copies}
