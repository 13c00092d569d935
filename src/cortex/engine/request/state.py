"""A request in the engine and its choices: sequences, samplers, times, counts."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from cortex.engine.kv.tokens import TokenBuffer
from cortex.engine.llama.model import Vocab
from cortex.engine.llama.sampler import Sampler
from cortex.engine.request.output import OutputProcessor, PreparedRequest
from cortex.engine.sampling.logprobs import PromptScores
from cortex.engine.sampling.params import is_repeatable, seed_for
from cortex.engine.sampling.prompt_lookup import GuessHistory
from cortex.engine.scheduling.sequence import Sequence
from cortex.wire.events import Event, Finished, Started, TextDelta, Timings, Usage
from cortex.wire.worker import RequestStats

__all__ = ["ChoiceState", "RequestState"]


@dataclass(slots=True, eq=False)
class RequestState:
    """One request. Times are the engine clock's seconds; `arrival_s` is when the parent got it.

    `ended`: finished, failed or cancelled; nothing more is computed or sent for it. `cached_tokens` is fixed when the
    first choice starts.
    """

    prepared: PreparedRequest
    arrival_s: float
    choices: list[ChoiceState] = field(default_factory=list)
    ended: bool = False
    started_s: float | None = None
    first_token_s: float | None = None
    cached_tokens: int = 0
    draft_tokens: int = 0
    draft_accepted: int = 0

    @property
    def id(self) -> str:
        return self.prepared.request.id

    @property
    def deadline_s(self) -> float | None:
        limit = self.prepared.request.deadline_s
        return None if limit is None else self.arrival_s + limit

    @property
    def done(self) -> bool:
        return all(choice.output.finished for choice in self.choices)

    @property
    def completion_tokens(self) -> int:
        return sum(choice.output.completion_tokens for choice in self.choices)

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=len(self.prepared.tokens),
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            reasoning_tokens=sum(choice.output.reasoning_tokens for choice in self.choices),
        )

    def start(self, now: float) -> list[Event]:
        """The first events of a request that starts to be computed now."""
        prepared = self.prepared
        self.started_s = now
        self.cached_tokens = self.choices[0].cached
        movable = is_repeatable(prepared.sampling)
        events: list[Event] = [Started(len(prepared.tokens), self.cached_tokens, movable=movable)]
        if prepared.echo and prepared.scored_from is None:
            events += [TextDelta(prepared.echo, number) for number in range(prepared.request.n)]
        return events

    def end(self, now: float) -> Finished:
        """The last event of a request that ends now."""
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
        queued = self.choices[0].slot is None
        return RequestStats(
            id=self.id,
            state="queued" if queued else "prefill" if self.first_token_s is None else "decode",
            prompt_tokens=len(self.prepared.tokens),
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
        )


@dataclass(slots=True, eq=False, kw_only=True)
class ChoiceState(Sequence):
    """One choice being generated: the sequence that the scheduler runs, with what samples it and makes its events.

    `scores`: of a scored prompt, until its echo is sent. `mask`: what the grammar allows next, while it is computed in
    another thread. `on_device`: its tokens are drawn by the device's samplers.
    """

    request: RequestState
    sampler: Sampler
    output: OutputProcessor
    scores: PromptScores | None = None
    mask: Future[None] | None = None
    on_device: bool = False
    guesses: GuessHistory = field(default_factory=GuessHistory)

    @classmethod
    def begin(cls, request: RequestState, number: int, arrival: int, vocab: Vocab) -> ChoiceState:
        """Choice `number` of `request`, which is the `arrival`th request of its engine.

        A request that another neuron began is resumed: its replayed tokens count and are part of all states, but
        give no events.
        """
        prepared = request.prepared
        asked = prepared.request
        choice = cls(
            request_id=asked.id,
            number=number,
            tokens=TokenBuffer(prepared.tokens, prepared.images),
            prompt_length=len(prepared.tokens),
            arrival=arrival,
            priority=asked.priority,
            principal=asked.principal,
            share=asked.cache_prompt and prepared.scored_from is None,
            scoring=prepared.scored_from is not None,
            hashes=prepared.hashes,
            request=request,
            sampler=Sampler(prepared.sampling, seed_for(prepared.sampling, number), vocab),
            output=OutputProcessor(prepared, number, vocab),
        )
        prompt = choice.tokens.view()
        choice.sampler.accept_prompt(prompt[prompt >= 0] if prepared.images else prompt)
        if prepared.scored_from is not None:
            choice.scores = PromptScores(prepared.tokens, prepared.scored_from, asked.logprobs or 0, vocab)
        _replay(choice, asked.replay)
        return choice


def _replay(choice: ChoiceState, tokens: list[int]) -> None:
    """Bring text, grammar, penalties and random numbers to where they were after `tokens`; before it is scheduled.

    The tokens that close reasoning with a spent budget were forced, not drawn, here as there.
    """
    forced: list[int] = []
    for token in tokens:
        if forced and token == forced[0]:
            forced.pop(0)
            choice.sampler.accept(token)
            choice.output.force(token)
        else:
            choice.sampler.replay(token)
            choice.output.replay(token)
            forced = choice.output.forced()
        choice.tokens.append(token)
