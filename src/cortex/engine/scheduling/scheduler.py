"""Decides each step's batch: every running sequence's next token, then prefill chunks under a token budget. Pure.

The one writer of sequences and of the KV pool: the engine and its parts ask, and report what became of a batch.

A step, in order:
1. admit: waiting sequences by class, then first come, first served, while a sequence id, a place and cells are free.
   One whose prefix a running sequence is just computing waits for it and copies it then;
2. decode: one token (and its guesses) per sequence that is past its prompt. If cells are short, cached prefixes are
   dropped, oldest first, then the youngest sequence is preempted, to be computed again later;
3. prefill: chunks in order of admission while the budget lasts, in cells that are free or cached only.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from cortex.engine.kv.host_store import HostStore
from cortex.engine.kv.pool import KvPool
from cortex.engine.kv.slot import Effect, Reuse
from cortex.engine.scheduling.admission import Admission, Restore, WorthRestoring
from cortex.engine.scheduling.sequence import Entry, Sequence
from cortex.engine.vision.spans import ImageSpan

__all__ = ["Scheduler"]

_CHECKPOINT_FROM = 128
_CHECKPOINT_BEFORE_END = 8
"""Prompts from 128 tokens on are kept without their last 8, which may be markers that the next turn's rendering of
the conversation doesn't have there (an opened reasoning block). Both chosen, not measured."""
_SCORED_CHUNK = 64
"""Positions per step whose logits are all read: with a vocabulary of 150k they fill 38 MB, while other streams wait."""

AnySequence = TypeVar("AnySequence", bound=Sequence)


class Scheduler(Generic[AnySequence]):
    """Waiting and running sequences of one model, both in order, at most `parallel` of them running.

    `kv` and `host` may be read by others. `restore` is called during `schedule`, when the effects so far must be
    applied first; `worth_restoring` decides whether it is.
    """

    def __init__(
        self,
        kv: KvPool,
        parallel: int,
        host: HostStore | None = None,
        *,
        worth_restoring: WorthRestoring = lambda _size, _tokens: True,
        restore: Restore = lambda _slot, _stored: False,
    ) -> None:
        self.kv = kv
        self.host = host or HostStore(0)
        self.parallel = parallel
        self.waiting: list[AnySequence] = []
        self.running: list[AnySequence] = []
        self.preemptions = 0
        self._admission = Admission(kv, self.host, worth_restoring, restore)
        self._after_image = False

    # ---- sequences come and go

    @property
    def decoding(self) -> int:
        """How many running sequences are past their prompts."""
        return sum(1 for sequence in self.running if sequence.pending <= 1)

    def submit(self, sequence: AnySequence) -> None:
        if self.kv.reuse is Reuse.EXACT and sequence.share and sequence.prompt_length >= _CHECKPOINT_FROM:
            sequence.checkpoint_at = sequence.tokens.boundary(sequence.prompt_length - _CHECKPOINT_BEFORE_END)
        bisect.insort(self.waiting, sequence, key=_order)

    def finish(self, sequence: AnySequence, *, keep: bool) -> None:
        """End `sequence`, wherever it is; `keep` its computed tokens for others."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        if sequence.pending < 0:  # guesses that nobody has verified
            self.kv.truncate(sequence.slot, len(sequence.tokens))
        self.kv.close(sequence.slot, keep=keep and sequence.share)
        sequence.slot = None

    # ---- a step

    def schedule(
        self, budget: int, draft: Callable[[AnySequence], list[int]] | None = None
    ) -> list[Entry[AnySequence]]:
        """The next batch; `budget` bounds its prefill tokens. `draft` guesses a decoding sequence's next tokens.

        Empty while there is nothing to do but to wait for an image's embeddings. The effects must be applied before
        the batch is decoded. Each entry ends in `commit`, or the batch in one of `on_refused`, `on_aborted` and
        `on_no_cells`.
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
        self._preempt_youngest()
        return self.schedule(budget, draft)

    def commit(
        self, entry: Entry[AnySequence], tokens: Iterable[int], *, accepted: int = 0, recompute: bool = False
    ) -> None:
        """Append the `tokens` sampled from a computed entry to its sequence and remove the cells of wrong guesses.

        `accepted` of the entry's guesses were right and are among `tokens`. `recompute`: the last row that counts must
        be computed again, in a batch without guesses, so its cell is removed as well.
        """
        sequence = entry.sequence
        assert sequence.slot is not None
        for token in tokens:
            sequence.tokens.append(token)
        if entry.outputs:
            sequence.scoring = False
        if entry.drafts:
            wrong = len(entry.drafts) - accepted + recompute
            self.kv.truncate(sequence.slot, entry.start + entry.count - wrong)

    def take_effects(self) -> list[Effect]:
        """The changes to llama.cpp's memory since the last call, to be applied in this order."""
        return self.kv.take_effects()

    def offload_idle(self, idle_cells: float) -> None:
        """Move one cached prefix to host RAM if cached prefixes hold more than `idle_cells` cells.

        Attention passes over every cell in use for every sequence of the batch, whoever holds it. Only what host RAM
        has room for is moved: nothing is dropped for speed.
        """
        if self.kv.reuse is not Reuse.PARTIAL or self.kv.cached <= idle_cells:
            return
        oldest = next((slot for slot in self.kv.cached_slots() if self.host.has_room(slot.length)), None)
        if oldest:
            self.kv.drop(oldest)

    def free_a_cell(self) -> None:
        """Drop a cached prefix if it takes that to have a free cell."""
        if not self.kv.free:
            self.kv.drop_oldest()

    # ---- batches that were not computed

    def on_refused(self, entries: Iterable[Entry[AnySequence]]) -> None:
        """llama.cpp refused the batch and left its memory as it was: none of it counts as computed."""
        for entry in entries:
            assert entry.sequence.slot is not None
            self.kv.rewind(entry.sequence.slot, entry.start)

    def on_aborted(self, entries: Iterable[Entry[AnySequence]]) -> None:
        """Some of the batch may be in memory: remove it, or start sequences again from which nothing can be cut."""
        for entry in entries:
            assert entry.sequence.slot is not None
            if self.kv.reuse is Reuse.EXACT:
                self._preempt(entry.sequence)
            else:
                self.kv.truncate(entry.sequence.slot, entry.start)

    def on_no_cells(self, entries: Iterable[Entry[AnySequence]]) -> bool:
        """llama.cpp found no room, against our count: free some. False when nothing is left to be freed."""
        self.on_refused(entries)
        if self.kv.cached:
            self.kv.clear()
        elif len(self.running) > 1:
            self._preempt_youngest()
        else:
            return False
        return True

    # ---- 1. admission

    def _admit(self) -> None:
        for sequence in list(self.waiting):
            if len(self.running) >= self.parallel:
                return
            match = self._admission.match(sequence)
            if self._admission.waits_for_prefix(sequence, match, self.running):
                continue
            slot = self._admission.open(sequence, match, self.running)
            if slot is None:
                return
            self.waiting.remove(sequence)
            sequence.slot = slot
            if not sequence.started:
                sequence.cached = min(sequence.computed, sequence.prompt_length)
            bisect.insort(self.running, sequence, key=_order)

    # ---- 2. decode

    def _decode_entries(self, draft: Callable[[AnySequence], list[int]] | None) -> list[Entry[AnySequence]]:
        entries: list[Entry[AnySequence]] = []
        for sequence in list(self.running):
            if sequence.slot is None or sequence.pending != 1 or not self._make_room(1, sequence):
                continue
            drafts = tuple(draft(sequence)[: self.kv.free - 1]) if draft else ()
            rows = 1 + len(drafts)
            entries.append(self._take(sequence, rows, outputs=rows, drafts=drafts))
        return entries

    def _make_room(self, count: int, sequence: AnySequence) -> bool:
        """Free `count` cells for `sequence`; False when that took its own."""
        while self.kv.free < count:
            if self.kv.drop_oldest():
                continue
            if self._preempt_youngest() is sequence:
                return False
        return True

    def _preempt_youngest(self) -> AnySequence:
        youngest = max(self.running, key=_order)
        self._preempt(youngest)
        return youngest

    def _preempt(self, sequence: AnySequence) -> None:
        """Free all cells of a running sequence; it waits at its old place in the queue to be computed again."""
        assert sequence.slot is not None
        self.running.remove(sequence)
        self.kv.close(sequence.slot, keep=False)
        sequence.slot = None
        sequence.preemptions += 1
        self.preemptions += 1
        self.submit(sequence)

    # ---- 3. prefill

    def _image_entry(self, budget: int) -> Entry[AnySequence] | None:
        """An image whose embeddings are there, in every other step at most: streams get a step between two images."""
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

    def _prefill_entries(self, budget: int) -> list[Entry[AnySequence]]:
        entries: list[Entry[AnySequence]] = []
        for sequence in self.running:
            if sequence.pending <= 0 or sequence.image:
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
        """How many tokens of `sequence` may be computed in one step."""
        stops = [len(sequence.tokens), sequence.stop_at, sequence.checkpoint_at]
        if sequence.scoring:
            stops.append(sequence.computed + _SCORED_CHUNK)
        if image := sequence.tokens.next_image(sequence.computed):
            stops.append(image.start)
        return min(stop for stop in stops if stop is not None and stop > sequence.computed) - sequence.computed

    def _keep_checkpoints(self) -> None:
        """Where no tail can be removed, the next turn needs this one's prompt as it was before its answer."""
        if self.kv.reuse is not Reuse.EXACT:
            return
        for sequence in self.running:
            due = sequence.slot and sequence.checkpoint_at == sequence.computed
            if sequence.slot and due and (self.kv.has_id or self.kv.drop_oldest()):
                sequence.checkpoint_at = None
                self.kv.checkpoint(sequence.slot)

    def _take(
        self,
        sequence: AnySequence,
        count: int,
        *,
        outputs: int,
        image: ImageSpan | None = None,
        drafts: tuple[int, ...] = (),
    ) -> Entry[AnySequence]:
        assert sequence.slot is not None
        start = sequence.computed
        self.kv.extend(sequence.slot, count)
        sequence.started = True
        return Entry(sequence, start, count, outputs, sequence.scoring, image, drafts)


def _order(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.order
