"""Legacy completions as one JSON object, and the options that streamed and whole answers share.

Shapes after openai's Python SDK 3.54 (`types/completion.py`, `types/completion_choice.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import UNSET, Struct, UnsetType

from cortex.dialects.openai.logprobs import CompletionLogprobs
from cortex.dialects.openai.objects import FINGERPRINT, TimingsObject, UsageObject, encode, finish_reason
from cortex.wire.events import ChoiceFinished, Event, Finished, ReasoningDelta, TextDelta, TokenLogprob

__all__ = ["CompletionAnswerOptions", "CompletionChoice", "CompletionCollector"]


@dataclass(frozen=True, slots=True)
class CompletionAnswerOptions:
    """What the request says about the form of its answer, streamed or not.

    `parts` is the number of prompts. For each of them `generated` candidates are generated (`best_of`), of which the
    best `choices` are returned (`n`). `usage`, `timings`, `progress`: the client asked for them. `echo`: the prompt
    comes first.
    """

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
    """`id` is required: Zed's edit predictions read it (zed#54804)."""

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
        """The mean over the generated tokens, without those of an echoed prompt."""
        known = [token.logprob for token in self.logprobs[self.echoed :] if token.logprob is not None]
        return sum(known) / max(1, len(known))


class CompletionCollector:
    """Collector of one answer to all prompts."""

    def __init__(self, options: CompletionAnswerOptions) -> None:
        self._options = options
        self._candidates = [[_Candidate() for _ in range(options.generated)] for _ in range(options.parts)]
        self._ends: list[Finished] = []

    def feed(self, part: int, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case TextDelta():
                    candidate = self._candidates[part][event.choice]
                    if self._options.echo and not candidate.text:
                        candidate.echoed = len(event.logprobs)
                    candidate.text.append(event.text)
                    candidate.logprobs += event.logprobs
                case ReasoningDelta():
                    self._candidates[part][event.choice].text.append(event.text)
                case ChoiceFinished():
                    self._candidates[part][event.choice].reason = finish_reason(event.reason)
                case Finished():
                    self._ends.append(event)
                case _:
                    pass

    def finish(self) -> bytes:
        options = self._options
        chosen = [candidate for candidates in self._candidates for candidate in self._best(candidates)]
        answer = Completion(
            id=options.id,
            object="text_completion",
            created=options.created,
            model=options.model,
            choices=[self._choice(index, candidate) for index, candidate in enumerate(chosen)],
            usage=UsageObject.of(*(end.usage for end in self._ends)),
            timings=TimingsObject.of(self._ends[0]) if options.timings and options.parts == 1 else UNSET,
        )
        return encode(answer)

    def _best(self, candidates: list[_Candidate]) -> list[_Candidate]:
        if self._options.generated == self._options.choices:
            return candidates
        return sorted(candidates, key=lambda each: each.mean_logprob, reverse=True)[: self._options.choices]

    def _choice(self, index: int, candidate: _Candidate) -> CompletionChoice:
        logprobs = CompletionLogprobs.of(candidate.logprobs) if self._options.logprobs else None
        return CompletionChoice("".join(candidate.text), index, logprobs, candidate.reason)
