"""A request in the engine: its choices, its sequences, its clock, and the events it owes its client."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from cortex.engine.llama.model import Vocab
from cortex.engine.llama.sampler import Sampler
from cortex.engine.request.output import Choice, Job
from cortex.engine.sampling.logprobs import PromptScores
from cortex.engine.sampling.params import seed_for
from cortex.engine.scheduling.sequence import Sequence, TokenBuffer
from cortex.wire.events import Event, Finished, Timings, Usage
from cortex.wire.worker import RequestStats

__all__ = ["ChoiceState", "RequestState"]


@dataclass(slots=True, eq=False)
class ChoiceState:
    """One choice being generated: what the scheduler moves, what samples, what speaks. `mask` is what its grammar
    allows next, while that is being computed; `on_device`: its tokens are drawn by the device's samplers."""

    sequence: Sequence
    sampler: Sampler
    choice: Choice
    scores: PromptScores | None = None
    mask: Future[None] | None = None
    on_device: bool = False

    @classmethod
    def begin(cls, job: Job, number: int, arrival: int, vocab: Vocab) -> ChoiceState:
        """Choice `number` of `job`, which came as request `arrival` of its engine.

        Where another neuron stopped, it is taken up: its tokens count and are remembered, but say nothing again.
        """
        branch = cls(
            _sequence(job, number, arrival),
            Sampler(job.sampling, seed_for(job.sampling, number), vocab),
            Choice(job, number, vocab),
        )
        prompt = branch.sequence.tokens.view()
        branch.sampler.accept_prompt(prompt[prompt >= 0] if job.images else prompt)
        if job.scored_from is not None:
            branch.scores = PromptScores(job.tokens, job.scored_from, job.request.logprobs or 0, vocab)
        branch._replay(job.request.replay)
        return branch

    def _replay(self, tokens: list[int]) -> None:
        """Text, grammar, penalties and random numbers are then where they were. The tokens that close a spent reasoning
        budget were not drawn, here as there."""
        forced: list[int] = []
        for token in tokens:
            if forced and token == forced[0]:
                forced.pop(0)
                self.sampler.accept(token)
                self.choice.force(token)
            else:
                self.sampler.replay(token)
                self.choice.replay(token)
                forced = self.choice.forced()
            self.sequence.tokens.append(token)


def _sequence(job: Job, number: int, arrival: int) -> Sequence:
    return Sequence(
        request_id=job.request.id,
        choice=number,
        tokens=TokenBuffer(job.tokens, job.images),
        prompt_length=len(job.tokens),
        arrival=arrival,
        priority=job.request.priority,
        principal=job.request.principal,
        share=job.request.cache_prompt and job.scored_from is None,
        scoring=job.scored_from is not None,
        hashes=job.hashes,
    )


@dataclass(slots=True, eq=False)
class RequestState:
    """One request. Times are the engine clock's seconds; `arrival_s` is when the parent got it."""

    job: Job
    arrival_s: float
    branches: list[ChoiceState] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    started_s: float | None = None
    first_token_s: float | None = None
    draft_tokens: int = 0
    draft_accepted: int = 0

    @property
    def id(self) -> str:
        return self.job.request.id

    @property
    def deadline_s(self) -> float | None:
        limit = self.job.request.deadline_s
        return None if limit is None else self.arrival_s + limit

    @property
    def done(self) -> bool:
        return all(branch.choice.finished for branch in self.branches)

    @property
    def cached_tokens(self) -> int:
        return self.branches[0].sequence.cached

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=len(self.job.tokens),
            cached_tokens=self.cached_tokens,
            completion_tokens=sum(branch.choice.completion_tokens for branch in self.branches),
            reasoning_tokens=sum(branch.choice.reasoning_tokens for branch in self.branches),
        )

    def end(self, now: float) -> Finished:
        started = self.started_s if self.started_s is not None else now
        first = self.first_token_s if self.first_token_s is not None else now
        timings = Timings(
            queue_s=started - self.arrival_s,
            prefill_s=first - started,
            decode_s=now - first,
            ttft_s=first - self.arrival_s,
            draft_tokens=self.draft_tokens,
            draft_accepted=self.draft_accepted,
        )
        return Finished(self.usage(), timings)

    def stats(self) -> RequestStats:
        sequence = self.branches[0].sequence
        state = "queued" if sequence.slot is None else "prefill" if self.first_token_s is None else "decode"
        return RequestStats(
            id=self.id,
            state=state,  # type: ignore[arg-type]
            prompt_tokens=len(self.job.tokens),
            cached_tokens=self.cached_tokens,
            completion_tokens=sum(branch.choice.completion_tokens for branch in self.branches),
        )
