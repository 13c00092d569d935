"""Who holds which KV cells: pure bookkeeping, whose effects the engine applies to llama.cpp's memory.

The pool is unified: a cell holds one token and belongs to one or more sequence ids. Cells here are counted, not
located: llama.cpp chooses its own, and any free one will do. Half-open ranges per slot:

    [0, shared)       cells that other slots hold too (a copied prefix)
    [shared, length)  cells of this slot alone

A *slot* is a sequence id in use, either running (a sequence computes on it) or cached (its sequence has finished and
its tokens wait to be shared). A cell is *pinned* while a running slot holds it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cortex.engine.kv.host_store import Stored
from cortex.engine.scheduling.sequence import Int32Array, Sequence, TokenBuffer

__all__ = ["CopyPrefix", "Discard", "Effect", "KvPool", "Match", "Restore", "Reuse", "Save", "Slot", "Truncate"]


class Reuse(enum.Enum):
    """What a model's memory can do with a prefix."""

    PARTIAL = "partial"  # any prefix of a sequence can be copied, any tail removed
    EXACT = "exact"  # recurrent state: only a whole sequence can be copied, nothing removed
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CopyPrefix:
    """`length` in positions, as the model counts: behind images there may be more tokens than that."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Truncate:
    """`length` in positions."""

    slot: int
    length: int


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget the sequence id whole."""

    slot: int


@dataclass(frozen=True, slots=True)
class Save:
    """The prefix of `length` tokens that is about to be discarded may be worth keeping in host RAM."""

    slot: Slot
    tokens: Int32Array


@dataclass(frozen=True, slots=True)
class Restore:
    """Fill the empty sequence id of `slot` from host RAM."""

    slot: Slot
    stored: Stored


Effect = CopyPrefix | Truncate | Discard | Save | Restore


@dataclass(slots=True, eq=False)
class Slot:
    """A sequence id in use. Its cells are numbers for counting only."""

    id: int
    tokens: TokenBuffer
    principal: str | None
    length: int = 0
    running: bool = True
    last_used: int = 0
    cells: TokenBuffer = field(default_factory=TokenBuffer)
    hashes: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Match:
    slot: Slot
    length: int


class KvPool:
    """Slots and their cells. Operations that change llama.cpp's memory append to `effects`, in order."""

    def __init__(self, cells: int, slots: int, reuse: Reuse, *, isolate: bool = False) -> None:
        self.cells = cells
        self.reuse = reuse
        self.isolate = isolate
        self.slots: dict[int, Slot] = {}
        self.effects: list[Effect] = []
        self._free_ids = list(range(slots - 1, -1, -1))
        self._free_cells = list(range(cells - 1, -1, -1))
        self._holders = np.zeros(cells, dtype=np.int32)
        self._pins = np.zeros(cells, dtype=np.int32)
        self._holder_of = self._holders.data  # the same memory, for single cells
        self._pin_of = self._pins.data
        self._pinned = 0
        self._clock = 0

    # ---- what there is

    @property
    def free(self) -> int:
        return len(self._free_cells)

    @property
    def pinned(self) -> int:
        """Cells that running slots hold."""
        return self._pinned

    @property
    def cached(self) -> int:
        """Cells held by finished sequences alone: to be had for the asking."""
        return self.cells - self.free - self._pinned

    @property
    def has_id(self) -> bool:
        return bool(self._free_ids)

    def cached_slots(self) -> list[Slot]:
        """Oldest first."""
        return sorted((slot for slot in self.slots.values() if not slot.running), key=lambda slot: slot.last_used)

    def best_match(self, sequence: Sequence) -> Match | None:
        """The slot that shares the longest usable prefix with `sequence`; its last token is always computed anew."""
        if self.reuse is Reuse.NONE or not sequence.share:
            return None
        tokens = sequence.tokens.view()
        best: Match | None = None
        for slot in self._visible_to(sequence.principal):
            common = slot.tokens.common_prefix(tokens, min(slot.length, len(tokens) - 1))
            length = self._usable(slot, sequence.tokens.boundary(common))
            if length > (best.length if best else 0):
                best = Match(slot, length)
        return best

    def _visible_to(self, principal: str | None) -> Iterator[Slot]:
        return (slot for slot in self.slots.values() if not self.isolate or slot.principal == principal)

    def _usable(self, slot: Slot, common: int) -> int:
        return common if self.reuse is Reuse.PARTIAL or common == slot.length else 0

    # ---- changes

    def open(self, sequence: Sequence, match: Match | None) -> Slot:
        """Give `sequence` a slot that starts with the matched prefix. A free id must be there (`has_id`), unless the
        match is a cached slot taken over whole."""
        self._clock += 1
        if match and not match.slot.running and match.length == match.slot.length:
            slot = self._take_over(match.slot, sequence)
        else:
            slot = Slot(self._free_ids.pop(), sequence.tokens, sequence.principal)
            self.slots[slot.id] = slot
            if match:
                self._copy(match, slot)
        slot.hashes = sequence.hashes
        slot.last_used = self._clock
        return slot

    def open_stored(self, sequence: Sequence, stored: Stored, length: int) -> Slot:
        """Give `sequence` a slot whose first `length` tokens come from host RAM. A free id and free cells for all
        that was stored must be there."""
        slot = self.open(sequence, None)
        self.extend(slot, stored.length)
        self.effects.append(Restore(slot, stored))
        self.truncate(slot, length)
        return slot

    def _take_over(self, slot: Slot, sequence: Sequence) -> Slot:
        slot.tokens, slot.principal, slot.running = sequence.tokens, sequence.principal, True
        self._pin(slot.cells.view())
        return slot

    def _copy(self, match: Match, slot: Slot) -> None:
        cells = match.slot.cells.view(0, match.length)
        slot.cells = TokenBuffer(cells)
        slot.length = match.length
        self._holders[cells] += 1
        self._pin(cells)
        match.slot.last_used = self._clock
        self.effects.append(CopyPrefix(match.slot.id, slot.id, slot.tokens.position(match.length)))

    def checkpoint(self, slot: Slot) -> None:
        """Keep what a running slot holds now as a cached one, before it runs on. A free id must be there."""
        self._clock += 1
        cells = slot.cells.view()
        kept = Slot(
            self._free_ids.pop(),
            TokenBuffer(slot.tokens.view(0, slot.length)),
            slot.principal,
            length=slot.length,
            running=False,
            last_used=self._clock,
            cells=TokenBuffer(cells),
            hashes=slot.hashes,
        )
        self._holders[cells] += 1
        self.slots[kept.id] = kept
        self.effects.append(CopyPrefix(slot.id, kept.id, slot.tokens.position(slot.length)))

    def extend(self, slot: Slot, count: int) -> None:
        """Cells for the next `count` tokens of `slot`, which the coming decode writes. They must be free."""
        assert count <= self.free, f"{count} cells wanted, {self.free} free"
        if count == 1:
            cell = self._free_cells.pop()
            slot.cells.append(cell)
            self._holder_of[cell] = self._pin_of[cell] = 1
        else:
            cells = self._free_cells[-count:]
            del self._free_cells[-count:]
            slot.cells.extend(cells)
            self._holders[cells] = 1
            self._pins[cells] = 1
        self._pinned += count
        slot.length += count

    def truncate(self, slot: Slot, length: int) -> None:
        """Forget what `slot` holds beyond `length` tokens."""
        if length == slot.length:
            return
        assert self.reuse is not Reuse.EXACT or length == 0, "this model's memory can't be rolled back"
        self._let_go(slot, length)
        self.effects.append(Truncate(slot.id, slot.tokens.position(length)))

    def rewind(self, slot: Slot, length: int) -> None:
        """Take back `extend`: llama.cpp refused the batch and left its memory as it was."""
        self._let_go(slot, length)

    def close(self, slot: Slot, *, keep: bool) -> None:
        """The slot's sequence has ended: `keep` its tokens for sharing, or give everything back."""
        self._clock += 1
        slot.last_used = self._clock
        if not keep or slot.length == 0 or self.reuse is Reuse.NONE:
            self._discard(slot)
            return
        self._unpin(slot.cells.view())
        slot.running = False
        self._drop_covered_by(slot)

    def _drop_covered_by(self, slot: Slot) -> None:
        """Older cached slots that are a prefix of this one say nothing new (where a prefix can be cut from it)."""
        if self.reuse is not Reuse.PARTIAL:
            return
        tokens = slot.tokens.view(0, slot.length)
        for other in self.cached_slots():
            if other is slot or other.principal != slot.principal or other.length > slot.length:
                continue
            if other.tokens.common_prefix(tokens, other.length) == other.length:
                self._discard(other)

    def drop_oldest(self) -> bool:
        """Give up the cached prefix that was used longest ago; False when there is none."""
        cached = (slot for slot in self.slots.values() if not slot.running)
        oldest = min(cached, key=lambda slot: slot.last_used, default=None)
        if oldest is None:
            return False
        self.drop(oldest)
        return True

    def drop(self, slot: Slot) -> None:
        """Give up one cached prefix."""
        self.effects.append(Save(slot, slot.tokens.view(0, slot.length)))
        self._discard(slot)

    def clear(self) -> None:
        """Give up every cached prefix."""
        while self.drop_oldest():
            pass

    def take_effects(self) -> list[Effect]:
        effects, self.effects = self.effects, []
        return effects

    def _discard(self, slot: Slot) -> None:
        self._let_go(slot, 0)
        del self.slots[slot.id]
        self._free_ids.append(slot.id)
        self.effects.append(Discard(slot.id))

    def _let_go(self, slot: Slot, length: int) -> None:
        cells = slot.cells.view(length)
        if slot.running:
            self._unpin(cells)
        self._holders[cells] -= 1
        self._free_cells.extend(cells[self._holders[cells] == 0].tolist())
        slot.cells.truncate(length)
        slot.length = length

    def _pin(self, cells: Int32Array) -> None:
        self._pinned += int((self._pins[cells] == 0).sum())
        self._pins[cells] += 1

    def _unpin(self, cells: Int32Array) -> None:
        self._pins[cells] -= 1
        self._pinned -= int((self._pins[cells] == 0).sum())

    # ---- invariants

    def check_integrity(self) -> None:
        """Raise AssertionError unless every cell and id is accounted for exactly once. For tests."""
        holders = np.zeros(self.cells, dtype=np.int32)
        pins = np.zeros(self.cells, dtype=np.int32)
        for slot in self.slots.values():
            cells = slot.cells.view()
            assert len(cells) == slot.length, f"slot {slot.id}: {len(cells)} cells for {slot.length} tokens"
            assert len(np.unique(cells)) == len(cells), f"slot {slot.id} holds a cell twice"
            assert slot.length <= len(slot.tokens), f"slot {slot.id} holds more than its tokens"
            holders[cells] += 1
            if slot.running:
                pins[cells] += 1
        assert (holders == self._holders).all(), "holder counts are off"
        assert (pins == self._pins).all(), "pin counts are off"
        assert self._pinned == int((pins > 0).sum()), "pinned total is off"
        assert sorted(self._free_cells) == np.flatnonzero(holders == 0).tolist(), "free cells are off"
        assert not set(self._free_ids) & set(self.slots), "an id is both free and in use"
