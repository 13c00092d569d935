"""From sampled tokens to events: characters, segments, stop strings, the end of an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cortex.engine.chat.types import Constraint, Delta, Splitter
from cortex.engine.llama.model import Vocab
from cortex.engine.request.text import StopMatcher, Utf8Assembler
from cortex.engine.vision.spans import ImageSpan, Picture
from cortex.wire.events import (
    ChoiceFinished,
    Event,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallEnd,
    ToolCallStart,
)
from cortex.wire.inference import InferenceRequest, Sampling

__all__ = ["OutputProcessor", "PreparedRequest"]


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request ready for the engine: validated, rendered, tokenised. Made by `Preparer.prepare`, off the engine loop.

    `room`: how many tokens may be generated at most. `format_stops`: stop strings of the chat format (ends of turn),
    not the client's. `constraints`: one per choice, or none. `reasoning_budget`: in tokens, None = unlimited.
    `echo`: text sent before the answer; with `scored_from`, it carries the log-probabilities of the prompt's tokens
    from that one on. `hashes`: of the request's prefixes (`wire.prefix`). `images`: the spans of `tokens` that hold
    `pictures`.
    """

    request: InferenceRequest
    tokens: list[int]
    room: int
    sampling: Sampling
    make_splitter: Callable[[int], Splitter] | None = None
    constraints: list[Constraint] = field(default_factory=list)
    format_stops: list[str] = field(default_factory=list)
    reasoning_budget: int | None = None
    echo: str = ""
    scored_from: int | None = None
    hashes: list[int] = field(default_factory=list)
    images: tuple[ImageSpan, ...] = ()
    pictures: list[Picture] = field(default_factory=list)


class OutputProcessor:
    """One choice's answer: takes every token that was sampled, returns events, sets `finished` at the end."""

    def __init__(self, prepared: PreparedRequest, number: int, vocab: Vocab) -> None:
        self.number = number
        self.finished: ChoiceFinished | None = None
        self.completion_tokens = 0
        self.reasoning_tokens = 0
        self.tool_calls = 0
        self._calls_complete = True
        self._prepared = prepared
        self._vocab = vocab
        self._utf8 = Utf8Assembler()
        self._stops = StopMatcher([*prepared.request.stop, *prepared.format_stops])
        self._splitter = prepared.make_splitter(number) if prepared.make_splitter else None
        self._constraint = prepared.constraints[number] if prepared.constraints else None
        self._constrained = False
        self._budget_spent = False
        self._logprobs: list[TokenLogprob] = []

    # ---- what governs the next token

    @property
    def governed(self) -> bool:
        """Whether every row of logits must be read for this choice: it has a grammar, or wants log-probabilities."""
        return self._constraint is not None or self._prepared.request.logprobs is not None

    @property
    def unparsed_calls(self) -> int:
        return self._splitter.unparsed_calls if self._splitter is not None else 0

    @property
    def room_left(self) -> int:
        return self._prepared.room - self.completion_tokens

    def constraint(self) -> Constraint | None:
        """The grammar that governs the next token, if any; reset where a further tool block begins."""
        if self._constraint is None:
            return None
        active = self._splitter is None or self._splitter.constrained
        if active and not self._constrained and self._splitter is not None and self.completion_tokens:
            self._constraint.reset()
        self._constrained = active
        return self._constraint if active else None

    def forced(self) -> list[int]:
        """Tokens that must come next because the reasoning budget is spent; not empty once at most."""
        if self._splitter is None or not self.overspent:
            return []
        self._budget_spent = True
        return self._splitter.end_reasoning()

    @property
    def overspent(self) -> bool:
        """Whether the reasoning budget is spent while reasoning is still open: no further token may be sampled."""
        budget = self._prepared.reasoning_budget
        if budget is None or self._splitter is None or self._budget_spent or self.reasoning_tokens < budget:
            return False
        return self._splitter.in_reasoning

    # ---- tokens in, events out

    def feed(self, token: int, logprob: TokenLogprob | None = None) -> list[Event]:
        """Take the answer's next token. Sets `finished` when it was the last.

        With `room` 0 the client only wanted the prompt evaluated: the token is dropped. Raises InternalError if the
        grammar forbids the token.
        """
        if self._prepared.room <= 0:
            return self._end("length", cut=True)
        self.completion_tokens += 1
        if token in self._vocab.ends and (self._constrained or not self._prepared.sampling.ignore_eos):
            return self._end("stop", cut=False)
        if self._splitter is not None and self._splitter.in_reasoning:
            self.reasoning_tokens += 1
        if logprob is not None:
            self._logprobs.append(logprob)
        events = self._segments(token, self._text_of(token))
        if self._stops.hit is not None:
            return events + self._end("stop", cut=False)
        if self._constrained and self._advance_constraint(token):
            return events + self._end("stop", cut=False)
        if self.completion_tokens >= self._prepared.room:
            return events + self._end("length", cut=True)
        return events

    def force(self, token: int) -> list[Event]:
        """Take a token that was not sampled: the grammar is not advanced."""
        self._constrained = False
        return self.feed(token)

    def replay(self, token: int) -> None:
        """Take a token that the client has already: the state advances, the events are dropped."""
        self.constraint()
        self.feed(token)
        self._logprobs.clear()

    def _advance_constraint(self, token: int) -> bool:
        """Whether the grammar allows no further token. A complete tool block doesn't end the answer."""
        assert self._constraint is not None
        self._constraint.accept(token)
        stays = self._splitter is None or self._splitter.constrained
        return stays and self._constraint.is_complete()

    def _text_of(self, token: int) -> str:
        if self._splitter is None and self._vocab.is_control(token):
            return ""
        if not self._utf8.pending and (text := self._vocab.text(token)) is not None:
            return text
        return self._utf8.feed(self._vocab.piece(token))

    def _segments(self, token: int, text: str) -> list[Event]:
        if self._splitter is not None:
            return self._filtered(self._splitter.feed(token, text))
        return self._filtered([TextDelta(text, self.number)] if text else [])

    def _filtered(self, deltas: Iterable[Delta]) -> list[Event]:
        """Text goes through the stop matcher; other deltas are passed unchanged."""
        events: list[Event] = []
        for delta in deltas:
            if isinstance(delta, TextDelta):
                events += self._text(delta.text)
                if self._stops.hit is not None:
                    break
            else:
                events += self._flush_text()
                self._logprobs.clear()
                self.tool_calls += isinstance(delta, ToolCallStart)
                if isinstance(delta, ToolCallEnd) and not delta.complete:
                    self._calls_complete = False
                events.append(delta)
        return _merged(events)

    def _text(self, text: str) -> list[Event]:
        safe = self._stops.feed(text)
        if not safe:
            return []
        logprobs, self._logprobs = self._logprobs, []
        return [TextDelta(safe, self.number, logprobs)]

    def _flush_text(self) -> list[Event]:
        """Text held back as a possible stop string, which can't become one since another segment begins."""
        text = self._stops.finish()
        if not text:
            return []
        logprobs, self._logprobs = self._logprobs, []
        return [TextDelta(text, self.number, logprobs)]

    def _end(self, reason: FinishReason, *, cut: bool) -> list[Event]:
        events: list[Event] = []
        hit = self._stops.hit
        if hit is None:
            if self._splitter is not None:
                events += self._filtered(self._splitter.finish(cut=cut))
            events += self._flush_text()
        elif self._splitter is not None:
            # what the splitter still holds comes after the stop string: dropped
            self._splitter.finish(cut=True)
        client_stop = hit if hit in self._prepared.request.stop else None
        if not self._calls_complete:
            reason = "length"
        elif client_stop is not None:
            reason = "stop_sequence"
        elif reason == "stop" and self.tool_calls:
            reason = "tool_calls"
        self.finished = ChoiceFinished(reason, client_stop, self.number)
        return [*events, self.finished]


def _merged(events: list[Event]) -> list[Event]:
    """Join neighbouring deltas of one kind: each event costs every process on its way to the client."""
    merged: list[Event] = []
    for event in events:
        last = merged[-1] if merged else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            merged[-1] = TextDelta(last.text + event.text, event.choice, [*last.logprobs, *event.logprobs])
        elif isinstance(event, ReasoningDelta) and isinstance(last, ReasoningDelta):
            merged[-1] = ReasoningDelta(last.text + event.text, event.choice)
        else:
            merged.append(event)
    return merged
