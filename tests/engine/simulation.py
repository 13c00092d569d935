"""A stand-in for llama.cpp's memory and a tiny engine loop over the pure scheduler, for property tests.

The memory keeps what a real one would: for each sequence id the token at each position. Every entry of a batch is
checked against it, so a wrong copy, a missing truncate or a reused id shows up as a hole or a foreign token.
"""

from __future__ import annotations

from cortex.engine.kv.host_store import HostStore
from cortex.engine.kv.pool import CopyPrefix, Discard, KvPool, Restore, Reuse, Save, Truncate
from cortex.engine.scheduling.scheduler import Entry, Scheduler
from cortex.engine.scheduling.sequence import Sequence, TokenBuffer

__all__ = ["Simulation"]


class Simulation:
    """`step()` schedules, checks and appends one made-up token to every sequence whose last token was computed."""

    def __init__(
        self, *, cells: int, slots: int, parallel: int, reuse: Reuse, isolate: bool = False, host: int = 0
    ) -> None:
        self.kv = KvPool(cells, slots, reuse, isolate=isolate)
        self.host = HostStore(host, isolate=isolate)
        self.restoring = True
        self.scheduler = Scheduler(self.kv, parallel, self.host, lambda _size, _tokens: self.restoring)
        self.memory: dict[int, list[int]] = {}
        self.computed_tokens = 0
        self.finished: list[Sequence] = []
        self.output_left: dict[int, int] = {}
        self._arrivals = 0

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

    def step(self, budget: int, guesses: int = 0) -> list[Entry]:
        entries = self.scheduler.schedule(budget, (lambda _: [7] * guesses) if guesses else None)
        self._apply()
        self._check_batch(entries, budget)
        for entry in entries:
            self._compute(entry)
        for entry in entries:
            if entry.outputs:
                self._sample(entry)
        self._settle()
        return entries

    def run(self, budget: int = 64, most: int = 2000) -> None:
        for _ in range(most):
            if self.scheduler.idle:
                return
            assert self.step(budget), "nothing scheduled while sequences wait or run"
        raise AssertionError("the simulation doesn't end")

    # ---- the stand-ins

    def _compute(self, entry: Entry) -> None:
        assert entry.sequence.slot is not None
        held = self.memory.setdefault(entry.sequence.slot.id, [])
        assert len(held) == entry.start, f"hole: {len(held)} tokens in memory, computing from {entry.start}"
        held.extend(entry.sequence.tokens.view(entry.start, entry.start + entry.count).tolist())
        assert held == entry.sequence.tokens.view(0, len(held)).tolist(), "a foreign prefix"
        self.computed_tokens += entry.count

    def _sample(self, entry: Entry) -> None:
        sequence = entry.sequence
        if sequence.drafts:
            assert sequence.slot is not None
            end = entry.start + entry.count
            sequence.tokens.truncate(end - sequence.drafts)
            sequence.drafts = 0
            self.kv.truncate(sequence.slot, entry.start + 1)
        self.output_left[sequence.arrival] -= 1
        if self.output_left[sequence.arrival] <= 0:
            self.scheduler.finish(sequence, keep=True)
            self.finished.append(sequence)
        else:
            sequence.tokens.append(1000 + sequence.arrival)

    def _apply(self) -> None:
        for effect in self.kv.take_effects():
            match effect:
                case CopyPrefix(source, target, length):
                    assert not self.memory.get(target), "copied onto a sequence id in use"
                    if self.kv.reuse is Reuse.EXACT:
                        assert length == len(self.memory[source]), "a recurrent state was cut"
                    self.memory[target] = self.memory[source][:length]
                case Truncate(slot, length):
                    assert self.kv.reuse is Reuse.PARTIAL
                    del self.memory[slot][length:]
                case Discard(slot):
                    self.memory.pop(slot, None)
                case Save(slot, tokens):
                    assert self.memory[slot.id] == tokens.tolist()
                    if self.host.wants(tokens, slot.principal):
                        self.host.add(tokens, bytes(len(tokens)), slot.principal, [])
                case Restore(slot, stored):
                    assert not self.memory.get(slot.id), "restored onto a sequence id in use"
                    self.memory[slot.id] = stored.tokens.view().tolist()

    def _settle(self) -> None:
        self._apply()
        self.kv.check_integrity()
        for slot in self.kv.slots.values():
            held = self.memory.get(slot.id, [])
            assert held == slot.tokens.view(0, slot.length).tolist(), f"slot {slot.id} is not what memory holds"

    def _check_batch(self, entries: list[Entry], budget: int) -> None:
        prefill = sum(entry.count for entry in entries if entry.count > 1 + entry.sequence.drafts and not entry.image)
        assert prefill <= budget, "the prefill budget is exceeded"
        assert len({id(entry.sequence) for entry in entries}) == len(entries), "a sequence twice in one batch"
