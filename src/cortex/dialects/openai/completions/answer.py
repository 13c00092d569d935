"""Legacy completions as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import UNSET, Struct, UnsetType

from cortex.dialects.openai.logprobs import CompletionLogprobs
from cortex.dialects.openai.objects import FINGERPRINT, TimingsObject, UsageObject, encode, finish_word
from cortex.wire.events import ChoiceFinished, Event, Finished, ReasoningDelta, TextDelta, TokenLogprob

__all__ = ["CompletionChoice", "CompletionCollector", "CompletionView"]


@dataclass(frozen=True, slots=True)
class CompletionView:
    """What an answer needs to know of its request: `parts` prompts, for each `choices` of `generated` candidates."""

    id: str
    created: int
    model: str
    parts: int = 1
    choices: int = 1
    generated: int = 1
    logprobs: bool = False
    echo: bool = False
    usage: bool = False
    timings: bool = False
    progress: bool = False


class CompletionChoice(Struct, frozen=True):
    text: str
    index: int
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None


class Completion(Struct, frozen=True):
    """`id` is not optional: Zed's edit predictions read it (zed#54804)."""

    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageObject
    system_fingerprint: str = FINGERPRINT
    timings: TimingsObject | UnsetType = UNSET


@dataclass(slots=True)
class _Candidate:
    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    echoed: int = 0
    reason: str = "stop"

    @property
    def mean_logprob(self) -> float:
        """Of what was generated, not of the echoed prompt's tokens."""
        known = [token.logprob for token in self.logprobs[self.echoed :] if token.logprob is not None]
        return sum(known) / max(1, len(known))


class CompletionCollector:
    """Implements Collector for one answer over all prompts."""

    def __init__(self, view: CompletionView) -> None:
        self._view = view
        self._candidates = [[_Candidate() for _ in range(view.generated)] for _ in range(view.parts)]
        self._ends: list[Finished] = []

    def feed(self, part: int, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case TextDelta():
                    candidate = self._candidates[part][event.choice]
                    if self._view.echo and not candidate.text:
                        candidate.echoed = len(event.logprobs)
                    candidate.text.append(event.text)
                    candidate.logprobs += event.logprobs
                case ReasoningDelta():
                    self._candidates[part][event.choice].text.append(event.text)
                case ChoiceFinished():
                    self._candidates[part][event.choice].reason = finish_word(event.reason)
                case Finished():
                    self._ends.append(event)
                case _:
                    pass

    def finish(self) -> bytes:
        view = self._view
        chosen = [candidate for candidates in self._candidates for candidate in self._best(candidates)]
        answer = Completion(
            id=view.id,
            object="text_completion",
            created=view.created,
            model=view.model,
            choices=[self._choice(index, candidate) for index, candidate in enumerate(chosen)],
            usage=UsageObject.of(*(end.usage for end in self._ends)),
            timings=TimingsObject.of(self._ends[0]) if view.timings and view.parts == 1 else UNSET,
        )
        return encode(answer)

    def _best(self, candidates: list[_Candidate]) -> list[_Candidate]:
        if self._view.generated == self._view.choices:
            return candidates
        return sorted(candidates, key=lambda each: each.mean_logprob, reverse=True)[: self._view.choices]

    def _choice(self, index: int, candidate: _Candidate) -> CompletionChoice:
        logprobs = CompletionLogprobs.of(candidate.logprobs, 0) if self._view.logprobs else None
        return CompletionChoice("".join(candidate.text), index, logprobs, candidate.reason)
