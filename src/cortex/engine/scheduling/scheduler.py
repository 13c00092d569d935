"""Decides each step's batch: every running sequence's next token, then prefill chunks under a token budget. Pure.

A step, in order:
1. admit: waiting sequences by class, then first come, first served, while a sequence id, a place and cells are to be
   had. One whose prefix a running sequence is just computing waits for it and copies it then;
2. decode: one token (and its drafts) per sequence that is past its prompt. Cells short: cached prefixes go, oldest
   first, then the youngest sequence is preempted, to be computed again later;
3. prefill: chunks in order of admission while budget lasts, in cells that are free or cached only.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass

from cortex.engine.kv.host_store import HostStore, Stored
from cortex.engine.kv.pool import KvPool, Match, Reuse, Slot
from cortex.engine.scheduling.sequence import Sequence
from cortex.engine.vision.spans import ImageSpan

__all__ = ["Entry", "Scheduler"]

_WORTH_WAITING = 64
"""Tokens a running prefill must add to what is cached already before anyone waits for it."""
_CHECKPOINT_FROM = 128
_CHECKPOINT_BEFORE_END = 8
"""Prompts from this length on are kept without their last tokens, which may be markers that the next turn's rendering
of the conversation doesn't have there (an opened reasoning block)."""
_SCORED_CHUNK = 64
"""Positions per step whose logits are all read: with a vocabulary of 150k they fill 38 MB, while others wait."""
_HEADROOM = 16
"""Cells left per running sequence when another is admitted, lest it is preempted at once."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Tokens `start` to `start + count` of `sequence` in this step's batch. `outputs`: how many logits rows are sampled
    from, counted from the end. `scored`: the rows of all `count` positions are wanted besides. `image`: what they are,
    unless they are text; such an entry is a batch of its own."""

    sequence: Sequence
    start: int
    count: int
    outputs: int
    scored: bool = False
    image: ImageSpan | None = None

    @property
    def rows(self) -> int:
        """How many logits rows are wanted, counted from the end."""
        return self.count if self.scored else self.outputs


class Scheduler:
    """Waiting and running sequences of one model; `kv` is only ever changed through here. `worth_restoring` says
    whether a state of so many bytes is read back to save so many tokens."""

    def __init__(
        self,
        kv: KvPool,
        parallel: int,
        host: HostStore | None = None,
        worth_restoring: Callable[[int, int], bool] = lambda _size, _tokens: True,
    ) -> None:
        self.kv = kv
        self.host = host or HostStore(0)
        self._worth_restoring = worth_restoring
        self.parallel = parallel
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0
        self._after_image = False

    def submit(self, sequence: Sequence) -> None:
        if self.kv.reuse is Reuse.EXACT and sequence.share and sequence.prompt_length >= _CHECKPOINT_FROM:
            sequence.checkpoint_at = sequence.tokens.boundary(sequence.prompt_length - _CHECKPOINT_BEFORE_END)
        bisect.insort(self.waiting, sequence, key=_order)

    def finish(self, sequence: Sequence, *, keep: bool) -> None:
        """End `sequence`, wherever it is; `keep` its computed tokens for others."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        self.kv.close(sequence.slot, keep=keep and sequence.share)
        sequence.slot = None

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    @property
    def decoding(self) -> int:
        return sum(1 for sequence in self.running if sequence.pending - sequence.drafts <= 1)

    def schedule(self, budget: int, draft: Callable[[Sequence], list[int]] | None = None) -> list[Entry]:
        """The next batch; `budget` bounds its prefill tokens. `draft` guesses a decoding sequence's next tokens.

        Empty while the only thing to do is to wait for an image's embeddings.
        """
        self._keep_checkpoints()
        self._admit()
        if image := self._image_entry(budget):
            return [image]
        entries = self._decode_entries(draft)
        entries += self._prefill_entries(budget)
        if entries or not self.running:
            return entries
        if image := self._image_entry(budget):
            return [image]
        if any(sequence.image and not sequence.image.picture.ready for sequence in self.running):
            return []
        self.preempt_youngest()
        return self.schedule(budget, draft)

    def move_out(self, idle_cells: float) -> None:
        """Send one cached prefix to host RAM if more than `idle_cells` cells are held by finished sequences alone.

        Attention passes over every cell in use for every sequence of the batch, whoever holds it. Only what host RAM
        has room for goes: nothing is lost for speed.
        """
        if self.kv.reuse is not Reuse.PARTIAL or self.kv.cached <= idle_cells:
            return
        oldest = next((slot for slot in self.kv.cached_slots() if self.host.has_room(slot.length)), None)
        if oldest:
            self.kv.drop(oldest)

    # ---- 1. admission

    def _admit(self) -> None:
        for sequence in list(self.waiting):
            if len(self.running) >= self.parallel:
                return
            match = self.kv.best_match(sequence)
            if self._waits_for_prefix(sequence, match.length if match else 0):
                continue
            if not self._has_room(sequence, match) or not self._ensure_id(match):
                return
            self.waiting.remove(sequence)
            self._start(sequence, match)

    def _open_slot(self, sequence: Sequence, match: Match | None) -> Slot:
        """From the pool, or from host RAM where that saves much more."""
        found = self.host.best_match(sequence, whole=self.kv.reuse is Reuse.EXACT)
        if found and self._saves_enough(found[0], found[1] - (match.length if match else 0)):
            stored, length = found
            while self.kv.free < stored.length and self.kv.drop_oldest():
                pass
            if self.kv.free >= stored.length and self.kv.has_id:
                self.host.touch(stored)
                return self.kv.open_stored(sequence, stored, length)
        return self.kv.open(sequence, match if match and self.kv.slots.get(match.slot.id) is match.slot else None)

    def _saves_enough(self, stored: Stored, tokens: int) -> bool:
        if self.kv.reuse is Reuse.NONE or tokens < _WORTH_WAITING:
            return False
        return self._worth_restoring(len(stored.state), tokens)

    def _waits_for_prefix(self, sequence: Sequence, cached: int) -> bool:
        """Whether a running sequence is about to hold a much longer prefix of this one than there is now."""
        if not sequence.share or self.kv.reuse is Reuse.NONE:
            return False
        for other in self.running:
            if other.computed >= other.prompt_length or not other.share:
                continue
            if self.kv.isolate and other.principal != sequence.principal:
                continue
            limit = min(other.prompt_length, len(sequence.tokens) - 1)
            common = sequence.tokens.boundary(other.tokens.common_prefix(sequence.tokens.view(), limit))
            worth = 1 if other.request_id == sequence.request_id else _WORTH_WAITING
            if common - cached >= worth:
                self._ask_to_stop_at(other, common)
                return True
        return False

    def _ask_to_stop_at(self, sequence: Sequence, length: int) -> None:
        if self.kv.reuse is Reuse.EXACT and (sequence.stop_at is None or length < sequence.stop_at):
            sequence.stop_at = length

    def _has_room(self, sequence: Sequence, match: Match | None) -> bool:
        shared = match.length if match and match.slot.running else 0
        promised = sum(other.pending for other in self.running)
        room = self.kv.cells - self.kv.pinned - promised - _HEADROOM * len(self.running)
        return len(sequence.tokens) - shared <= room or not self.running

    def _ensure_id(self, match: Match | None) -> bool:
        """A free sequence id, for which a cached prefix (never the matched one) may have to go."""
        if self.kv.has_id:
            return True
        for slot in self.kv.cached_slots():
            if match is None or slot is not match.slot:
                self.kv.drop(slot)
                return True
        return match is not None and not match.slot.running and match.length == match.slot.length

    def _start(self, sequence: Sequence, match: Match | None) -> None:
        sequence.slot = self._open_slot(sequence, match)
        if not sequence.admitted:
            sequence.cached = min(sequence.computed, sequence.prompt_length)
        bisect.insort(self.running, sequence, key=_order)

    # ---- 2. decode

    def _decode_entries(self, draft: Callable[[Sequence], list[int]] | None) -> list[Entry]:
        entries: list[Entry] = []
        for sequence in list(self.running):
            if sequence.slot is None or sequence.pending != 1 or not self._make_room(1, sequence):
                continue
            if draft and (guesses := draft(sequence)[: self.kv.free - 1]):
                sequence.tokens.extend(guesses)
                sequence.drafts = len(guesses)
            entries.append(self._take(sequence, 1 + sequence.drafts, outputs=1 + sequence.drafts))
        return entries

    def _make_room(self, count: int, sequence: Sequence) -> bool:
        """Free `count` cells for `sequence`; False when that took its own."""
        while self.kv.free < count:
            if self.kv.drop_oldest():
                continue
            if self.preempt_youngest() is sequence:
                return False
        return True

    def preempt_youngest(self) -> Sequence:
        youngest = max(self.running, key=_order)
        self.preempt(youngest)
        return youngest

    def preempt(self, sequence: Sequence) -> None:
        """Take everything from a running sequence; it waits at its old place in the line to be computed again."""
        assert sequence.slot is not None
        self.running.remove(sequence)
        self.kv.close(sequence.slot, keep=False)
        sequence.slot = None
        sequence.preemptions += 1
        self.preemptions += 1
        self.submit(sequence)

    # ---- 3. prefill

    def _image_entry(self, budget: int) -> Entry | None:
        """An image whose embeddings are there, at every other step at most: texts get on between two of them."""
        self._after_image = not self._after_image
        for sequence in self.running if self._after_image else ():
            image = sequence.image
            if image is None or not image.picture.ready:
                continue
            count = image.end - sequence.computed
            count = count if image.whole else min(count, budget)
            while self.kv.free < count and self.kv.drop_oldest():
                pass
            if self.kv.free >= count:
                return self._take(sequence, count, outputs=0, image=image)
        self._after_image = False
        return None

    def _prefill_entries(self, budget: int) -> list[Entry]:
        entries: list[Entry] = []
        for sequence in self.running:
            if sequence.pending == 0 or sequence.image:
                continue
            count = min(self._chunk(sequence), budget)
            while self.kv.free < count and self.kv.drop_oldest():
                pass
            count = min(count, self.kv.free)
            if count <= 0:
                break
            done = count == sequence.pending
            entries.append(self._take(sequence, count, outputs=int(done)))
            budget -= count
        return entries

    def _chunk(self, sequence: Sequence) -> int:
        stops = [len(sequence.tokens), sequence.stop_at, sequence.checkpoint_at]
        if sequence.scoring:
            stops.append(sequence.computed + _SCORED_CHUNK)
        if image := sequence.tokens.next_image(sequence.computed):
            stops.append(image.start)
        return min(stop for stop in stops if stop is not None and stop > sequence.computed) - sequence.computed

    def _keep_checkpoints(self) -> None:
        """Where no tail can be cut off, the next turn needs this one's prompt as it was before its answer."""
        if self.kv.reuse is not Reuse.EXACT:
            return
        for sequence in self.running:
            if (
                sequence.slot
                and sequence.checkpoint_at == sequence.computed
                and (self.kv.has_id or self.kv.drop_oldest())
            ):
                sequence.checkpoint_at = None
                self.kv.checkpoint(sequence.slot)

    def _take(self, sequence: Sequence, count: int, *, outputs: int, image: ImageSpan | None = None) -> Entry:
        assert sequence.slot is not None
        start = sequence.computed
        self.kv.extend(sequence.slot, count)
        return Entry(sequence, start, count, outputs, sequence.scoring, image)


def _order(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.order
