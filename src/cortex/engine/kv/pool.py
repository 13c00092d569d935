"""Who holds which KV cells: pure bookkeeping, whose effects the engine applies to llama.cpp's memory.

The pool is unified: a cell holds one token and belongs to one or more sequence ids. Cells are counted here, not
located: llama.cpp chooses its own, and any free one will do. Half-open ranges per slot:

    [0, shared)       cells that other slots hold too (a copied prefix)
    [shared, length)  cells of this slot alone

A cell is *pinned* while a running slot holds it. Only the engine's scheduler changes a pool.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cortex.engine.kv.slot import CopyPrefix, Discard, Effect, PrefixMatch, Reuse, Save, Slot, Truncate
from cortex.engine.kv.tokens import Int32Array, TokenBuffer

__all__ = ["KvPool"]


class KvPool:
    """`cells` cells and `slots` sequence ids. Operations that change llama.cpp's memory append to `effects`, in order.

    `isolate`: a prefix is shared only between slots of the same principal.
    """

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
        """Cells held by cached slots alone: `drop_oldest` frees them."""
        return self.cells - self.free - self._pinned

    @property
    def has_id(self) -> bool:
        return bool(self._free_ids)

    def cached_slots(self) -> list[Slot]:
        """Oldest first."""
        return sorted((slot for slot in self.slots.values() if not slot.running), key=lambda slot: slot.last_used)

    def best_match(self, tokens: TokenBuffer, principal: str | None) -> PrefixMatch | None:
        """The slot that shares the longest usable prefix with `tokens`, whose last one is always computed anew."""
        if self.reuse is Reuse.NONE:
            return None
        wanted = tokens.view()
        best: PrefixMatch | None = None
        for slot in self._visible_to(principal):
            common = slot.tokens.common_prefix(wanted, min(slot.length, len(wanted) - 1))
            length = self._usable(slot, tokens.boundary(common))
            if length > (best.length if best else 0):
                best = PrefixMatch(slot, length)
        return best

    def _visible_to(self, principal: str | None) -> Iterator[Slot]:
        return (slot for slot in self.slots.values() if not self.isolate or slot.principal == principal)

    def _usable(self, slot: Slot, common: int) -> int:
        return common if self.reuse is Reuse.PARTIAL or common == slot.length else 0

    # ---- changes

    def open(
        self, tokens: TokenBuffer, principal: str | None, hashes: list[int], match: PrefixMatch | None = None
    ) -> Slot:
        """A running slot for `tokens` that starts with the matched prefix, if any.

        A free id must be there (`has_id`), unless the match is a cached slot that is taken over.
        """
        self._clock += 1
        if match and match.takes_over:
            slot = match.slot
            slot.tokens, slot.principal, slot.running = tokens, principal, True
            self._pin(slot.cells.view())
        else:
            slot = Slot(self._free_ids.pop(), tokens, principal)
            self.slots[slot.id] = slot
            if match:
                self._copy(match, slot)
        slot.hashes = hashes
        slot.last_used = self._clock
        return slot

    def _copy(self, match: PrefixMatch, slot: Slot) -> None:
        cells = match.slot.cells.view(0, match.length)
        slot.cells = TokenBuffer(cells)
        slot.length = match.length
        self._holders[cells] += 1
        self._pin(cells)
        match.slot.last_used = self._clock
        self.effects.append(CopyPrefix(match.slot.id, slot.id, slot.tokens.position(match.length)))

    def checkpoint(self, slot: Slot) -> None:
        """Copy what a running slot holds now to a cached slot, before it grows. A free id must be there."""
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
        """Take free cells for the next `count` tokens of `slot`, which the coming decode writes."""
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
        """Remove what `slot` holds beyond `length` tokens, here and in llama.cpp's memory."""
        if length == slot.length:
            return
        assert self.reuse is not Reuse.EXACT or length == 0, "this model's memory can't be rolled back"
        self._release(slot, length)
        self.effects.append(Truncate(slot.id, slot.tokens.position(length)))

    def rewind(self, slot: Slot, length: int) -> None:
        """Undo `extend` down to `length` tokens: llama.cpp refused the batch and left its memory unchanged."""
        self._release(slot, length)

    def close(self, slot: Slot, *, keep: bool) -> None:
        """The slot's sequence has ended: `keep` its tokens for sharing, or free everything."""
        self._clock += 1
        slot.last_used = self._clock
        if not keep or slot.length == 0 or self.reuse is Reuse.NONE:
            self._discard(slot)
            return
        self._unpin(slot.cells.view())
        slot.running = False
        self._drop_covered_by(slot)

    def _drop_covered_by(self, slot: Slot) -> None:
        """Discard cached slots that are a prefix of this one, where a prefix can be copied from it instead."""
        if self.reuse is not Reuse.PARTIAL:
            return
        tokens = slot.tokens.view(0, slot.length)
        for other in self.cached_slots():
            if other is slot or other.principal != slot.principal or other.length > slot.length:
                continue
            if other.tokens.common_prefix(tokens, other.length) == other.length:
                self._discard(other)

    def drop_oldest(self) -> bool:
        """Drop the cached prefix that was used longest ago; False when there is none."""
        cached = (slot for slot in self.slots.values() if not slot.running)
        oldest = min(cached, key=lambda slot: slot.last_used, default=None)
        if oldest is None:
            return False
        self.drop(oldest)
        return True

    def drop(self, slot: Slot) -> None:
        """Drop one cached prefix, which may be saved to host RAM first."""
        self.effects.append(Save(slot, slot.tokens.view(0, slot.length)))
        self._discard(slot)

    def clear(self) -> None:
        """Drop every cached prefix."""
        while self.drop_oldest():
            pass

    def take_effects(self) -> list[Effect]:
        """The changes to llama.cpp's memory since the last call, to be applied in this order."""
        effects, self.effects = self.effects, []
        return effects

    def _discard(self, slot: Slot) -> None:
        self._release(slot, 0)
        del self.slots[slot.id]
        self._free_ids.append(slot.id)
        self.effects.append(Discard(slot.id))

    def _release(self, slot: Slot, length: int) -> None:
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
        """Raise AssertionError unless every cell and id is accounted for exactly once. Called by tests."""
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
