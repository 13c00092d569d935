"""One model's continuous batching: schedule → decode → sample → commit → emit, a step at a time.

The engine owns its context, its KV bookkeeping and every request on them; all of it runs in the worker's loop thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

from cortex.engine.kv.host_store import HostStore
from cortex.engine.kv.offload import KvOffload
from cortex.engine.kv.pool import KvPool, Restore, Save
from cortex.engine.llama.context import Aborted, Context, DecodeFailed, NoCells
from cortex.engine.llama.model import Vocab
from cortex.engine.request.outbox import EventOutbox
from cortex.engine.request.output import Job
from cortex.engine.request.state import ChoiceState, RequestState
from cortex.engine.request.stats import ModelStats
from cortex.engine.sampling.device import BackendSampling
from cortex.engine.sampling.params import is_repeatable
from cortex.engine.sampling.prompt_lookup import PromptLookup
from cortex.engine.sampling.sampler import RowSampler
from cortex.engine.scheduling.recovery import Recovery
from cortex.engine.scheduling.scheduler import Entry, Scheduler
from cortex.engine.scheduling.sequence import Sequence
from cortex.engine.scheduling.step_budget import StepBudget
from cortex.engine.vision.encoder import Vision
from cortex.errors import CortexError, DeadlineExceeded, Draining, InternalError
from cortex.wire.events import Finished, Progress, Started, TextDelta, Usage, failed
from cortex.wire.worker import Emission, EngineModelStats

__all__ = ["Engine"]

_LONG_CHUNK = 64
"""Prompt tokens in a batch from which on a cancelled request is worth aborting the batch for."""

logger = logging.getLogger(__name__)


class Engine:
    """Requests in as Jobs, events out of `step()`. `clock` is monotonic seconds."""

    def __init__(
        self,
        model: str,
        vocab: Vocab,
        context: Context,
        kv: KvPool,
        host: HostStore,
        *,
        parallel: int,
        pace: StepBudget,
        lookup: PromptLookup,
        vision: Vision | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.kv = kv
        self.scheduler = Scheduler(kv, parallel, host, pace.worth_restoring)
        self.host = KvOffload(host, context, pace)
        self.backend_sampling = BackendSampling(model, context)
        self._recovery = Recovery(self.scheduler, context)
        self._vocab = vocab
        self._context = context
        self._pace = pace
        self._lookup = lookup
        self._vision = vision
        self._turn = vision.turn if vision else nullcontext
        self._clock = clock
        self._active: dict[str, RequestState] = {}
        self._spoken = EventOutbox()
        self._prefilling: frozenset[str] = frozenset()
        self._arrivals = 0
        self._tally = ModelStats(model, kv, pace)
        self._rows = RowSampler(context, vocab, kv=kv, lookup=lookup, tally=self._tally, spoken=self._spoken)

    # ---- requests

    @property
    def busy(self) -> bool:
        return bool(self._active or self._spoken)

    def submit(self, job: Job, arrival_s: float) -> None:
        """Take a request; everything more about it comes out of `step()`."""
        active = RequestState(job, arrival_s)
        self._active[active.id] = active
        self._tally.requests += 1
        self._arrivals += 1
        if job.request.count_only:
            self._spoken.say(active, [Started(len(job.tokens)), Finished(Usage(len(job.tokens)))])
            del self._active[active.id]
            return
        for number in range(job.request.n):
            branch = ChoiceState.begin(job, number, self._arrivals, self._vocab)
            branch.on_device = self.backend_sampling.wants(job)
            active.branches.append(branch)
        for branch in active.branches:
            if branch.choice.finished:  # the neuron that died had sent everything but the end
                self._start(active)
                self._spoken.say(active, [branch.choice.finished])
                self._finish(active)
                return
            self.scheduler.submit(branch.sequence)

    def cancel(self, request_id: str) -> None:
        """End a request without a word; unknown ids are late cancels of ended requests."""
        self._spoken.forget(request_id)
        if active := self._active.get(request_id):
            self._release(active)

    def abort_prefill_of(self, request_id: str) -> None:
        """From any thread: if a long prefill of this request is being computed right now, stop it."""
        if request_id in self._prefilling:
            self._context.abort.set()

    # ---- the loop

    def step(self) -> list[Emission]:
        """Compute one batch; everything that all requests have to say since the last step."""
        self._expire()
        self._encode_images()
        entries = self.scheduler.schedule(self._pace.budget(self.scheduler.decoding), self._guess)
        self.scheduler.move_out(self._pace.idle_cells(len(self.scheduler.running)))
        if not self._apply_effects():
            self._recovery.restore_failed(entries)
        elif entries:
            self._announce(entry.sequence for entry in entries)
            with self._turn():
                rows = self._decode(entries)
            for entry, row in zip(entries, rows, strict=False):
                self._commit(entry, row)
        elif self._vision:
            self._vision.nap()
        self._apply_effects()
        return self._spoken.take()

    def _decode(self, entries: list[Entry]) -> list[int]:
        """Rows of logits per entry; none when the batch has to be tried anew."""
        began = self._clock()
        self._prefilling = self._abortable(entries)
        try:
            rows = self._compute(entries)
        except NoCells:
            if not self._recovery.no_cells(entries):
                self._refuse_batch(DecodeFailed(1))
            return []
        except Aborted:
            self._recovery.aborted(entries)
            return []
        except DecodeFailed as error:
            if error.fatal:
                raise
            self._recovery.rewind(entries)
            self._refuse_batch(error)
            return []
        finally:
            self._prefilling = frozenset()
        self._measure(entries, self._clock() - began)
        return rows

    def _compute(self, entries: list[Entry]) -> list[int]:
        if self._vision and entries[0].image:
            self._vision.decode(self._context, entries[0])
            return [-1]
        self.backend_sampling.settle(map(self._branch, self.scheduler.running))
        return self._context.decode(entries)

    def _abortable(self, entries: list[Entry]) -> frozenset[str]:
        """Requests whose prefill is worth stopping. None beside a draw on the device: its random number is gone once
        the batch has begun, and the same seed would say something else."""
        if any(entry.outputs and self._branch(entry.sequence).on_device for entry in entries):
            return frozenset()
        return frozenset([entry.sequence.request_id for entry in entries if entry.count >= _LONG_CHUNK])

    def _branch(self, sequence: Sequence) -> ChoiceState:
        return self._active[sequence.request_id].branches[sequence.choice]

    def _measure(self, entries: list[Entry], seconds: float) -> None:
        prefill = total = guesses = 0
        for entry in entries:
            total += entry.count
            guesses += entry.sequence.drafts
            if entry.count > 1 + entry.sequence.drafts:
                prefill += entry.count
        self._pace.record(prefill=prefill, decode=total - prefill, seconds=seconds)
        if not prefill:
            self._lookup.record(total, guesses, seconds)
        self._tally.steps += 1

    def _commit(self, entry: Entry, row: int) -> None:
        active = self._active.get(entry.sequence.request_id)
        if active is None:  # an earlier choice of the same step has failed the request
            return
        branch = active.branches[entry.sequence.choice]
        if entry.scored:
            row = self._score_prompt(active, branch, entry, row)
        if not entry.outputs:
            self._report_progress(active, entry.sequence)
            return
        if active.first_token_s is None:
            active.first_token_s = self._clock()
            self._tally.first_token(active.first_token_s - active.arrival_s)
        try:
            self._rows.advance(active, branch, entry, row)
        except CortexError as error:
            self._fail(active, error)
            return
        if branch.choice.finished:
            self.scheduler.finish(branch.sequence, keep=active.job.request.cache_prompt)
            branch.sampler.close()
        if active.done:
            self._finish(active)

    def _score_prompt(self, active: RequestState, branch: ChoiceState, entry: Entry, row: int) -> int:
        """Note what the prompt's tokens score; with the last of them, say the echo. The row to sample from."""
        assert branch.scores is not None
        branch.scores.record(entry.start, map(self._context.logits, range(row, row + entry.count)))
        if entry.outputs:
            self._spoken.say(active, [TextDelta(active.job.echo, branch.choice.number, branch.scores.found)])
            branch.scores, branch.sequence.scoring = None, False
        return row + entry.count - entry.outputs

    def _guess(self, sequence: Sequence) -> list[int]:
        branch = self._branch(sequence)
        if branch.on_device:  # one row of a sequence a step is all that llama.cpp takes then
            return []
        return self._lookup.guess(sequence, branch, len(self.scheduler.running))

    # ---- beginnings

    def _announce(self, sequences: Iterable[Sequence]) -> None:
        for sequence in sequences:
            if sequence.admitted:
                continue
            sequence.admitted = True
            active = self._active[sequence.request_id]
            if active.started_s is None:
                self._start(active)

    def _start(self, active: RequestState) -> None:
        active.started_s = self._clock()
        job = active.job
        self._tally.prompt_tokens += len(job.tokens)
        self._tally.cached_tokens += active.cached_tokens
        plain = job.echo and job.scored_from is None
        echo = [TextDelta(job.echo, number) for number in range(job.request.n)] if plain else []
        movable = is_repeatable(job.sampling)
        self._spoken.say(active, [Started(len(job.tokens), active.cached_tokens, movable=movable), *echo])

    def _encode_images(self) -> None:
        for sequence, error in self._vision.encode_next(self.scheduler.running) if self._vision else ():
            if active := self._active.get(sequence.request_id):
                self._fail(active, error)
        self._announce(sequence for sequence in self.scheduler.running if sequence.image)

    def _report_progress(self, active: RequestState, sequence: Sequence) -> None:
        if active.job.request.report_progress and active.first_token_s is None:
            self._spoken.say(active, [Progress("prefill", sequence.computed, len(sequence.tokens))])

    # ---- ends

    def _finish(self, active: RequestState) -> None:
        del self._active[active.id]
        self._spoken.say(active, [active.end(self._clock())])
        self._tally.finished(active)

    def _fail(self, active: RequestState, error: CortexError) -> None:
        self._release(active)
        self._spoken.say(active, [failed(error)])

    def _release(self, active: RequestState) -> None:
        """Take every unfinished branch off the scheduler; what it has computed may still serve others."""
        del self._active[active.id]
        for picture in active.job.pictures:
            picture.forget()
        for branch in active.branches:
            if branch.choice.finished is None:
                self.scheduler.finish(branch.sequence, keep=active.job.request.cache_prompt)
                branch.sampler.close()

    def _expire(self) -> None:
        now = self._clock()
        for active in [a for a in self._active.values() if a.deadline_s is not None and now >= a.deadline_s]:
            self._fail(active, DeadlineExceeded(f"not finished within {active.job.request.deadline_s:g} s"))

    def _refuse_batch(self, error: DecodeFailed) -> None:
        logger.error("decode refused model=%s error=%s", self.model, error)
        for sequence in list(self.scheduler.running):
            if active := self._active.get(sequence.request_id):
                self._fail(active, InternalError(f"llama.cpp refused the batch ({error}); try again"))

    # ---- effects, words, figures

    def _apply_effects(self) -> bool:
        """Do what the bookkeeping has decided; False when a prefix could not be brought back from host RAM."""
        whole = True
        for effect in self.kv.take_effects():
            match effect:
                case Save(slot, tokens):
                    self.host.save(slot, tokens)
                case Restore(slot, stored):
                    whole = self.host.restore(slot, stored) and whole
                case _:
                    self._context.apply(effect)
        return whole

    def save_state(self, directory: Path) -> tuple[int, int]:
        """Write the cached prefixes below `directory`; (how many, bytes)."""
        return self.host.write(self.kv, directory)

    def restore_state(self, directory: Path) -> tuple[int, int]:
        """Take prefixes that `save_state` wrote into host RAM, as far as `host_cache` allows."""
        return self.host.read(directory)

    def canary(self) -> None:
        """Prove that the model can decode: one token, unless a step for a client has just shown it."""
        if not self.scheduler.running:
            if not self.kv.free:
                self.kv.drop_oldest()
            self._apply_effects()
            self._context.decode_canary(self._vocab.bos or 0)
        self._tally.canaries += 1

    def stats(self) -> EngineModelStats:
        return self._tally.stats(self.scheduler, self._active.values())

    def close(self) -> list[Emission]:
        """Fail what runs and free the context; the last words of its requests. The weights belong to the loader."""
        for active in list(self._active.values()):
            self._fail(active, Draining(f"{self.model} was unloaded", retry_after=1))
        self.kv.take_effects()  # moot: the memory they speak of goes as a whole
        self._rows.close()
        self.backend_sampling.close()
        self._context.close()
        return self._spoken.take()
