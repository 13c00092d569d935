"""One model's continuous batching, a step at a time: schedule → decode → sample → commit → events.

The engine owns its context, its KV bookkeeping and every request on them; all of it runs in the worker's loop thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

from cortex.engine.kv.host_store import HostStore, StoredPrefix
from cortex.engine.kv.offload import KvOffload
from cortex.engine.kv.pool import KvPool
from cortex.engine.kv.slot import Slot
from cortex.engine.llama.context import Aborted, Context, DecodeFailed, NoCells
from cortex.engine.llama.model import Vocab
from cortex.engine.request.outbox import EventOutbox
from cortex.engine.request.output import PreparedRequest
from cortex.engine.request.state import ChoiceState, RequestState
from cortex.engine.request.stats import ModelStats
from cortex.engine.sampling.device import BackendSampling
from cortex.engine.sampling.prompt_lookup import PromptLookup
from cortex.engine.sampling.sampler import RowSampler
from cortex.engine.scheduling.scheduler import Scheduler
from cortex.engine.scheduling.sequence import Entry
from cortex.engine.scheduling.step_budget import StepBudget
from cortex.engine.vision.encoder import Vision
from cortex.errors import CortexError, DeadlineExceeded, Draining, InternalError
from cortex.wire.events import Finished, Progress, Started, TextDelta, Usage, failed
from cortex.wire.worker import Emission, EngineModelStats

__all__ = ["Engine"]

_LONG_CHUNK = 64
"""Prompt tokens in a batch from which on it is aborted when their request is cancelled. Chosen, not measured."""

logger = logging.getLogger(__name__)


class Engine:
    """Takes prepared requests; `step()` returns their events. `clock` is monotonic seconds."""

    def __init__(
        self,
        model: str,
        vocab: Vocab,
        context: Context,
        kv: KvPool,
        host: HostStore,
        *,
        parallel: int,
        budget: StepBudget,
        lookup: PromptLookup,
        vision: Vision | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.scheduler: Scheduler[ChoiceState] = Scheduler(
            kv, parallel, host, worth_restoring=budget.worth_restoring, restore=self._restore
        )
        self._offload = KvOffload(host, context, budget)
        self.backend_sampling = BackendSampling(model, context)
        self._vocab = vocab
        self._context = context
        self._budget = budget
        self._lookup = lookup
        self._draft = self._guess if lookup.enabled else None
        self._vision = vision
        self._cpu_slice = vision.loop_slice if vision else nullcontext
        self._clock = clock
        self._requests: dict[str, RequestState] = {}
        self._outbox = EventOutbox()
        self._prefilling: frozenset[str] = frozenset()
        self._arrivals = 0
        self._stats = ModelStats(model, kv, budget)
        self._sampler = RowSampler(context, vocab)

    # ---- requests

    @property
    def busy(self) -> bool:
        """Whether `step` has something to compute or to return."""
        return bool(self._requests or self._outbox)

    def submit(self, prepared: PreparedRequest, arrival_s: float) -> None:
        """Take a request; all its events come out of `step()`."""
        request = RequestState(prepared, arrival_s)
        self._requests[request.id] = request
        self._stats.requests += 1
        self._arrivals += 1
        if prepared.request.count_only:
            tokens = len(prepared.tokens)
            self._outbox.add(request.id, Started(tokens), Finished(Usage(tokens)))
            self._remove(request)
            return
        on_device = self.backend_sampling.wants(prepared)
        for number in range(prepared.request.n):
            choice = ChoiceState.begin(request, number, self._arrivals, self._vocab)
            choice.on_device = on_device
            request.choices.append(choice)
        for choice in request.choices:
            if choice.output.finished:  # resumed from a neuron that died when everything but the end was sent
                self._start(request)
                self._outbox.add(request.id, choice.output.finished)
                choice.sampler.close()
                self._finish(request)
                return
            self.scheduler.submit(choice)

    def cancel(self, request_id: str) -> None:
        """Drop a request without a terminal event. An unknown id is a late cancel of a request that has ended."""
        self._outbox.drop(request_id)
        if request := self._requests.get(request_id):
            self._release(request)

    def abort_prefill_of(self, request_id: str) -> None:
        """From any thread: stop the running batch if it computes a long prefill of this request."""
        if request_id in self._prefilling:
            self._context.abort.set()

    # ---- the loop

    def step(self) -> list[Emission]:
        """Compute one batch; the events of all requests since the last step. Raises DecodeFailed if it is fatal."""
        self._fail_expired()
        self._encode_images()
        entries = self.scheduler.schedule(self._budget.budget(self.scheduler.decoding), self._draft)
        self.scheduler.offload_idle(self._budget.idle_cells(len(self.scheduler.running)))
        self._apply_effects()
        if entries:
            self._announce(entry.sequence for entry in entries)
            with self._cpu_slice():
                rows = self._decode(entries)
            for entry, row in zip(entries, rows, strict=False):
                self._commit(entry, row)
        elif self._vision:
            self._vision.wait()
        self._apply_effects()
        return self._outbox.take()

    def _decode(self, entries: list[Entry[ChoiceState]]) -> list[int]:
        """The index of each entry's first logits row; empty if the batch was not computed."""
        began = self._clock()
        self._prefilling = self._abortable(entries)
        try:
            rows = self._compute(entries)
        except NoCells:
            logger.warning("llama.cpp found no KV cells entries=%d free=%d", len(entries), self.scheduler.kv.free)
            if not self.scheduler.on_no_cells(entries):
                self._fail_running(DecodeFailed(1))
            return []
        except Aborted:
            self.scheduler.on_aborted(entries)
            return []
        except DecodeFailed as error:
            if error.fatal:
                raise
            self.scheduler.on_refused(entries)
            self._fail_running(error)
            return []
        finally:
            self._prefilling = frozenset()
        self._measure(entries, self._clock() - began)
        return rows

    def _compute(self, entries: list[Entry[ChoiceState]]) -> list[int]:
        if self._vision and entries[0].image:
            self._vision.decode(self._context, entries[0])
            return [-1]
        self.backend_sampling.update(self.scheduler.running)
        return self._context.decode(entries)

    def _abortable(self, entries: list[Entry[ChoiceState]]) -> frozenset[str]:
        """Requests whose cancel stops this batch. None if the device samples in it: its random number is used up once
        the batch has begun, so a batch computed again would draw another token for the same seed."""
        if any(entry.outputs and entry.sequence.on_device for entry in entries):
            return frozenset()
        return frozenset([entry.sequence.request_id for entry in entries if entry.count >= _LONG_CHUNK])

    def _measure(self, entries: list[Entry[ChoiceState]], seconds: float) -> None:
        prefill = total = guesses = 0
        for entry in entries:
            total += entry.count
            guesses += len(entry.drafts)
            if not entry.decodes:
                prefill += entry.count
        self._budget.record(prefill=prefill, decode=total - prefill, seconds=seconds)
        if not prefill:
            self._lookup.record(total, guesses, seconds)
        self._stats.steps += 1

    def _commit(self, entry: Entry[ChoiceState], row: int) -> None:
        """Sample from an entry that was computed, and let the scheduler take over what came of it."""
        choice, request = entry.sequence, entry.sequence.request
        if request.ended:  # another choice of it has failed in this step
            return
        if entry.scored:
            row = self._score_prompt(entry, row)
        if not entry.outputs:
            self._report_progress(choice)
            return
        if request.first_token_s is None:
            request.first_token_s = self._clock()
            self._stats.first_token(request.first_token_s - request.arrival_s)
        try:
            sampled = self._sampler.sample(entry, row)
        except CortexError as error:
            self._fail(request, error)
            return
        self.scheduler.commit(entry, sampled.tokens, accepted=sampled.accepted, recompute=sampled.unsure)
        self._stats.completion_tokens += sampled.completion_tokens
        if sampled.events:
            self._outbox.extend(request.id, sampled.events)
        if entry.drafts:
            self._lookup.learn(choice.guesses, len(entry.drafts), sampled.accepted, unsure=sampled.unsure)
            request.draft_tokens += len(entry.drafts)
            request.draft_accepted += sampled.accepted
        if choice.output.finished:
            self._end_choice(choice)
            if request.done:
                self._finish(request)

    def _score_prompt(self, entry: Entry[ChoiceState], row: int) -> int:
        """Record the scores of the entry's prompt tokens; with the last of them, send the echo.

        Returns the row to sample from.
        """
        choice = entry.sequence
        assert choice.scores is not None
        choice.scores.record(entry.start, map(self._context.logits, range(row, row + entry.count)))
        if entry.outputs:
            echo = TextDelta(choice.request.prepared.echo, choice.number, choice.scores.found)
            self._outbox.add(choice.request_id, echo)
            choice.scores = None
        return row + entry.count - entry.outputs

    def _guess(self, choice: ChoiceState) -> list[int]:
        """Guesses for the step's batch. None on the device, where llama.cpp takes one row of a sequence per batch."""
        if choice.on_device or choice.output.governed:
            return []
        room, running = choice.output.room_left, len(self.scheduler.running)
        return self._lookup.guess(choice.tokens, choice.guesses, room=room, running=running)

    # ---- the start of requests

    def _announce(self, choices: Iterable[ChoiceState]) -> None:
        for choice in choices:
            if choice.request.started_s is None:
                self._start(choice.request)

    def _start(self, request: RequestState) -> None:
        self._outbox.add(request.id, *request.start(self._clock()))
        self._stats.started(request)

    def _encode_images(self) -> None:
        if self._vision is None:
            return
        for choice, error in self._vision.encode_next(self.scheduler.running):
            if not choice.request.ended:
                self._fail(choice.request, error)
        self._announce(choice for choice in self.scheduler.running if choice.image)

    def _report_progress(self, choice: ChoiceState) -> None:
        request = choice.request
        if request.prepared.request.report_progress and request.first_token_s is None:
            self._outbox.add(request.id, Progress("prefill", choice.computed, len(choice.tokens)))

    # ---- the end of requests

    def _finish(self, request: RequestState) -> None:
        self._remove(request)
        self._outbox.add(request.id, request.end(self._clock()))
        self._stats.finished(request)
        request.choices.clear()  # no reference cycle is left to the garbage collector

    def _fail(self, request: RequestState, error: CortexError) -> None:
        self._release(request)
        self._outbox.add(request.id, failed(error))

    def _release(self, request: RequestState) -> None:
        """Take every unfinished choice off the scheduler; what it has computed may still serve others."""
        self._remove(request)
        for picture in request.prepared.pictures:
            picture.drop()
        for choice in request.choices:
            if choice.output.finished is None:
                self._end_choice(choice)
        request.choices.clear()

    def _remove(self, request: RequestState) -> None:
        del self._requests[request.id]
        request.ended = True

    def _end_choice(self, choice: ChoiceState) -> None:
        self.scheduler.finish(choice, keep=choice.request.prepared.request.cache_prompt)
        choice.sampler.close()

    def _fail_expired(self) -> None:
        now = self._clock()
        for request in [one for one in self._requests.values() if one.deadline_s is not None and now >= one.deadline_s]:
            self._fail(request, DeadlineExceeded(f"not finished within {request.prepared.request.deadline_s:g} s"))

    def _fail_running(self, error: DecodeFailed) -> None:
        logger.error("decode refused model=%s error=%s", self.model, error)
        for choice in list(self.scheduler.running):
            if not choice.request.ended:
                self._fail(choice.request, InternalError(f"llama.cpp refused the batch ({error}); try again"))

    # ---- llama.cpp's memory

    def _apply_effects(self) -> None:
        self._offload.apply(self.scheduler.take_effects())

    def _restore(self, slot: Slot, stored: StoredPrefix) -> bool:
        """Called while the scheduler admits a sequence: what it has freed for the prefix must be free."""
        self._apply_effects()
        return self._offload.restore(slot, stored)

    def save_state(self, directory: Path) -> tuple[int, int]:
        """Write the cached prefixes below `directory`; how many, and bytes."""
        return self._offload.write(self.scheduler.kv.cached_slots(), directory)

    def restore_state(self, directory: Path) -> tuple[int, int]:
        """Read what `save_state` wrote into host RAM, as far as `host_cache` allows; how many prefixes, and bytes."""
        return self._offload.read(directory)

    def canary(self) -> None:
        """Prove that the model can decode: one token, unless a step for a client has just done so."""
        if not self.scheduler.running:
            self.scheduler.free_a_cell()
            self._apply_effects()
            self._context.decode_canary(self._vocab.bos or 0)
        self._stats.canaries += 1

    def stats(self) -> EngineModelStats:
        return self._stats.stats(self.scheduler, self._requests.values())

    def close(self) -> list[Emission]:
        """Fail the requests that are left, free the context; the last events. The weights belong to the loader."""
        for request in list(self._requests.values()):
            self._fail(request, Draining(f"{self.model} was unloaded", retry_after=1))
        self.scheduler.take_effects()  # of no use: the context is freed with all its memory
        self._sampler.close()
        self.backend_sampling.close()
        self._context.close()
        return self._outbox.take()
