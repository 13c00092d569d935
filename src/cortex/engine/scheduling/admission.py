"""Whether a waiting sequence may run now, and with which prefix of the pool or of host RAM it starts. Pure.

A part of the scheduler, in a file of its own for its length.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq

from cortex.engine.kv.host_store import HostStore, StoredPrefix
from cortex.engine.kv.pool import KvPool
from cortex.engine.kv.slot import PrefixMatch, Reuse, Slot
from cortex.engine.scheduling.sequence import Sequence

__all__ = ["Admission", "Restore", "WorthRestoring"]

_WORTH_WAITING = 64
"""Tokens that a running prefill, or host RAM, must add to what the pool has before a sequence waits for them or they
are restored. Chosen, not measured."""
_HEADROOM = 16
"""Cells left free per running sequence when another is admitted, so that none is preempted at once. Chosen."""

Restore = Callable[[Slot, StoredPrefix], bool]
"""Fills the slot's sequence id in llama.cpp's memory, at once; False if llama.cpp refuses the state."""
WorthRestoring = Callable[[int, int], bool]
"""Whether a state of so many bytes is read back to save computing so many tokens."""


class Admission:
    """Decides on the admission of one scheduler's sequences, and opens their slots."""

    def __init__(self, kv: KvPool, host: HostStore, worth_restoring: WorthRestoring, restore: Restore) -> None:
        self._kv = kv
        self._host = host
        self._worth_restoring = worth_restoring
        self._restore = restore

    def match(self, sequence: Sequence) -> PrefixMatch | None:
        """The longest prefix of `sequence` that the pool holds for it."""
        return self._kv.best_match(sequence.tokens, sequence.principal) if sequence.share else None

    def waits_for_prefix(self, sequence: Sequence, match: PrefixMatch | None, running: Seq[Sequence]) -> bool:
        """Whether a running sequence is about to hold a much longer prefix of this one than `match`."""
        if not sequence.share or self._kv.reuse is Reuse.NONE:
            return False
        cached = match.length if match else 0
        for other in running:
            if other.computed >= other.prompt_length or not other.share:
                continue
            if self._kv.isolate and other.principal != sequence.principal:
                continue
            limit = min(other.prompt_length, len(sequence.tokens) - 1)
            common = sequence.tokens.boundary(other.tokens.common_prefix(sequence.tokens.view(), limit))
            worth = 1 if other.request_id == sequence.request_id else _WORTH_WAITING
            if common - cached >= worth:
                self._stop_at(other, common)
                return True
        return False

    def _stop_at(self, other: Sequence, length: int) -> None:
        if self._kv.reuse is Reuse.EXACT and (other.stop_at is None or length < other.stop_at):
            other.stop_at = length

    def open(self, sequence: Sequence, match: PrefixMatch | None, running: Seq[Sequence]) -> Slot | None:
        """A slot that starts with what is shared; None while there is no room for `sequence` or no free id."""
        if not self._has_room(sequence, match, running) or not self._ensure_id(match):
            return None
        if slot := self._restored(sequence, match.length if match else 0):
            return slot
        if match and self._kv.slots.get(match.slot.id) is not match.slot:
            match = None  # it was dropped to make room for a restore that failed
        return self._kv.open(sequence.tokens, sequence.principal, sequence.hashes, match)

    def _has_room(self, sequence: Sequence, match: PrefixMatch | None, running: Seq[Sequence]) -> bool:
        shared = match.length if match and match.slot.running else 0
        promised = sum(other.pending for other in running)
        room = self._kv.cells - self._kv.pinned - promised - _HEADROOM * len(running)
        return len(sequence.tokens) - shared <= room or not running

    def _ensure_id(self, match: PrefixMatch | None) -> bool:
        """Whether there is a free sequence id; a cached prefix (never the matched one) may be dropped for it."""
        if self._kv.has_id:
            return True
        for slot in self._kv.cached_slots():
            if match is None or slot is not match.slot:
                self._kv.drop(slot)
                return True
        return match is not None and match.takes_over

    def _restored(self, sequence: Sequence, cached: int) -> Slot | None:
        """A slot filled from host RAM; None where that saves too little, has no room or is refused by llama.cpp."""
        kv = self._kv
        if not sequence.share or kv.reuse is Reuse.NONE:
            return None
        found = self._host.best_match(sequence.tokens, sequence.principal, whole=kv.reuse is Reuse.EXACT)
        if found is None or not self._saves_enough(found[0], found[1] - cached):
            return None
        stored, length = found
        while kv.free < stored.length and kv.drop_oldest():
            pass
        if kv.free < stored.length or not kv.has_id:
            return None
        self._host.touch(stored)
        slot = kv.open(sequence.tokens, sequence.principal, sequence.hashes)
        kv.extend(slot, stored.length)
        if not self._restore(slot, stored):
            kv.close(slot, keep=False)
            return None
        kv.truncate(slot, length)
        return slot

    def _saves_enough(self, stored: StoredPrefix, tokens: int) -> bool:
        return tokens >= _WORTH_WAITING and self._worth_restoring(len(stored.state), tokens)
