"""A model of llama.cpp's memory and a tiny engine loop over the pure scheduler, for property tests.

The memory keeps what a real one would: for each sequence id the token at each position. Every entry of a batch is
checked against it, so a wrong copy, a missing truncate or a reused id shows up as a hole or a foreign token.
"""

from __future__ import annotations

from cortex.engine.kv.host_store import HostStore, StoredPrefix
from cortex.engine.kv.pool import KvPool
from cortex.engine.kv.slot import CopyPrefix, Discard, Reuse, Save, Slot, Truncate
from cortex.engine.kv.tokens import TokenBuffer
from cortex.engine.scheduling.scheduler import Scheduler
from cortex.engine.scheduling.sequence import Entry, Sequence

__all__ = ["Simulation"]


class Simulation:
    """`step()` schedules, checks and appends an invented token to every sequence whose last token was computed."""

    def __init__(
        self, *, cells: int, slots: int, parallel: int, reuse: Reuse, isolate: bool = False, host: int = 0
    ) -> None:
        self.kv = KvPool(cells, slots, reuse, isolate=isolate)
        self.host = HostStore(host, isolate=isolate)
        self.restoring = True
        self.refusing = False
        self.scheduler: Scheduler[Sequence] = Scheduler(
            self.kv,
            parallel,
            self.host,
            worth_restoring=lambda _size, _tokens: self.restoring,
            restore=self._restore,
        )
        self.memory: dict[int, list[int]] = {}
        self.computed_tokens = 0
        self.finished: list[Sequence] = []
        self.output_left: dict[int, int] = {}
        self._arrivals = 0

    @property
    def idle(self) -> bool:
        return not self.scheduler.waiting and not self.scheduler.running

    def submit(
        self, prompt: list[int] | TokenBuffer, output: int, *, principal: str | None = None, priority: int = 0
    ) -> Sequence:
        self._arrivals += 1
        tokens = prompt if isinstance(prompt, TokenBuffer) else TokenBuffer(prompt)
        sequence = Sequence(f"r{self._arrivals}", 0, tokens, len(tokens), self._arrivals, priority, principal)
        self.output_left[self._arrivals] = output
        self.scheduler.submit(sequence)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        self.scheduler.finish(sequence, keep=True)
        self.finished.append(sequence)
        self._settle()

    def step(self, budget: int, guesses: int = 0, right: int = 0) -> list[Entry[Sequence]]:
        """`guesses` are made for each decoding sequence, of which `right` turn out to be right."""
        entries = self.schedule(budget, guesses)
        for entry in entries:
            self._compute(entry)
        for entry in entries:
            if entry.outputs:
                self._sample(entry, right)
        self._settle()
        return entries

    def schedule(self, budget: int, guesses: int = 0) -> list[Entry[Sequence]]:
        """The next batch, which the test lets fail or `step` computes."""
        entries = self.scheduler.schedule(budget, (lambda _: [7] * guesses) if guesses else None)
        self._apply()
        self._check_batch(entries, budget)
        return entries

    def fail(self, budget: int, how: str, guesses: int = 0) -> list[Entry[Sequence]]:
        """Schedule a batch that isn't computed: "refused", "no cells", or "aborted" when half of it was."""
        entries = self.schedule(budget, guesses)
        if how == "aborted":
            for entry in entries[: (len(entries) + 1) // 2]:
                self._compute(entry)
            self.scheduler.on_aborted(entries)
        elif how == "refused":
            self.scheduler.on_refused(entries)
        elif entries:
            self.scheduler.on_no_cells(entries)
        self._settle()
        return entries

    def run(self, budget: int = 64, most: int = 2000) -> None:
        for _ in range(most):
            if self.idle:
                return
            assert self.step(budget), "nothing scheduled while sequences wait or run"
        raise AssertionError("the simulation doesn't end")

    # ---- what llama.cpp and the sampler would do

    def _compute(self, entry: Entry[Sequence]) -> None:
        assert entry.sequence.slot is not None
        known = entry.start + entry.count - len(entry.drafts)
        held = self.memory.setdefault(entry.sequence.slot.id, [])
        assert len(held) == entry.start, f"hole: {len(held)} tokens in memory, computing from {entry.start}"
        held.extend(entry.sequence.tokens.view(entry.start, known).tolist())
        assert held == entry.sequence.tokens.view(0, known).tolist(), "a foreign prefix"
        held.extend(entry.drafts)
        self.computed_tokens += entry.count

    def _sample(self, entry: Entry[Sequence], right: int) -> None:
        sequence = entry.sequence
        accepted = min(right, len(entry.drafts), self.output_left[sequence.arrival] - 1)
        self.output_left[sequence.arrival] -= accepted + 1
        ended = self.output_left[sequence.arrival] <= 0
        drawn = [] if ended else [1000 + sequence.arrival]
        self.scheduler.commit(entry, [*entry.drafts[:accepted], *drawn], accepted=accepted)
        if ended:
            self.scheduler.finish(sequence, keep=True)
            self.finished.append(sequence)

    def _restore(self, slot: Slot, stored: StoredPrefix) -> bool:
        self._apply()
        assert not self.memory.get(slot.id), "restored onto a sequence id in use"
        if self.refusing:
            self.host.remove(stored)
            return False
        self.memory[slot.id] = stored.tokens.view().tolist()
        return True

    def _apply(self) -> None:
        for effect in self.scheduler.take_effects():
            match effect:
                case CopyPrefix(source, target, length):
                    assert not self.memory.get(target), "copied onto a sequence id in use"
                    if self.kv.reuse is Reuse.EXACT:
                        assert length == len(self.memory[source]), "a recurrent state was cut"
                    self.memory[target] = self.memory[source][:length]
                case Truncate(slot, length):
                    assert self.kv.reuse is not Reuse.EXACT, "a recurrent state was cut"
                    del self.memory.get(slot, [])[length:]
                case Discard(slot):
                    self.memory.pop(slot, None)
                case Save(slot, tokens):
                    assert self.memory[slot.id] == tokens.tolist()
                    if self.host.wants(tokens, slot.principal):
                        self.host.add(tokens, bytes(len(tokens)), slot.principal, [])

    def _settle(self) -> None:
        self._apply()
        self.kv.check_integrity()
        for slot in self.kv.slots.values():
            held = self.memory.get(slot.id, [])
            assert held == slot.tokens.view(0, slot.length).tolist(), f"slot {slot.id} is not what memory holds"

    def _check_batch(self, entries: list[Entry[Sequence]], budget: int) -> None:
        prefill = sum(entry.count for entry in entries if not entry.decodes and not entry.image)
        assert prefill <= budget, "the prefill budget is exceeded"
        assert len({id(entry.sequence) for entry in entries}) == len(entries), "a sequence twice in one batch"
