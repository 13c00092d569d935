"""One request across the neurons it runs on: what has been sent to its client, and how it could go on elsewhere.

Pure. While nothing but waiting has been shown, a broken request starts anew. Later it can move only if its sampling
can be repeated (greedy or seeded, one choice, and the neuron says so): the next neuron gets the token ids sent so far
as `replay`, evaluates them without emitting them, and the client notices nothing. Ids mean the same in the same file
only.
"""

from __future__ import annotations

from msgspec import structs

from cortex.gateway.scheduling.effects import Outcome, OutcomeKind
from cortex.wire.events import Event, Failed, Finished, Progress, Started, Tokens
from cortex.wire.inference import InferenceRequest, Request

__all__ = ["FailoverState", "is_repeatable"]


def is_repeatable(request: Request) -> bool:
    """Whether the same prompt and the tokens so far may continue the same way on another neuron, by what the client
    asked for; what the model's profile adds to it, only the neuron knows (`Started.movable`)."""
    if not isinstance(request, InferenceRequest) or request.n > 1:
        return False
    sampling = request.sampling
    greedy = sampling.temperature is not None and sampling.temperature <= 0
    return greedy or sampling.top_k == 1 or (sampling.seed is not None and sampling.seed >= 0)


class FailoverState:
    """`feed` takes what a neuron sent and returns what the client gets."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._repeatable = is_repeatable(request)
        generates = isinstance(request, InferenceRequest)
        self.wants_progress = generates and request.report_progress  # type: ignore[union-attr]
        self._wants_tokens = generates and request.report_tokens  # type: ignore[union-attr]
        self._tokens: list[int] = []
        self._moves = 0
        self._file: str | None = None
        self._told_start = False
        self._started: Started | None = None
        self.has_output = False
        self.end: Finished | Failed | None = None

    def request(self, elapsed_s: float) -> Request:
        """What to send to the next neuron. Progress is always asked for: it shows that a long prefill isn't stalled. A
        deadline counts from the request's arrival here, so what has passed is taken off."""
        deadline_s = self._request.deadline_s
        if deadline_s is not None:
            deadline_s = max(0.0, deadline_s - elapsed_s)
        if not isinstance(self._request, InferenceRequest):
            return structs.replace(self._request, deadline_s=deadline_s)
        return structs.replace(
            self._request,
            deadline_s=deadline_s,
            report_progress=True,
            report_tokens=self._repeatable or self._wants_tokens,
            replay=[*self._request.replay, *self._tokens],
            echo=self._request.echo and not self.has_output,
        )

    def begin(self, file: str | None) -> bool:
        """A neuron takes over, which has the model from the GGUF with this hash. False if what its client has so far
        came from another file: its token ids would mean something else."""
        if self.has_output and file != self._file:
            return False
        self._file = file
        return True

    def feed(self, events: list[Event], neuron: str) -> list[Event]:
        """The events for the client. A Failed is held back: `end` has it, and the caller decides what becomes of it."""
        last = events[-1]
        if type(last) is Finished:
            self.end = self._marked(last) if self._moves else last
            events = [*events[:-1], self.end]
        elif type(last) is Failed:
            self.end = last
            events = events[:-1]
        if self._started is not None and not self._repeatable and self.has_output:
            return events
        return [shown for event in events if (shown := self._shown(event, neuron)) is not None]

    def _marked(self, end: Finished) -> Finished:
        return structs.replace(end, resumed=self._moves, usage=structs.replace(end.usage, resumed=self._moves))

    def _shown(self, event: Event, neuron: str) -> Event | None:
        match event:
            case Progress():
                return event if self.wants_progress and not self._told_start else None
            case Started():
                self._started = event
                self._repeatable = self._repeatable and event.movable
                if self._told_start:
                    return None
                self._told_start = True
                return structs.replace(event, neuron=neuron)
            case Tokens():
                self._tokens += event.ids
                return event if self._wants_tokens else None
            case Finished() | Failed():
                return event
        self.has_output = True
        return event

    @property
    def over(self) -> bool:
        return self.end is not None

    @property
    def finished(self) -> bool:
        return type(self.end) is Finished

    def may_move(self) -> bool:
        """Whether the request can go on on another neuron without its client noticing."""
        return not self.has_output or self._repeatable

    def move(self) -> None:
        """The neuron broke it off; the next one takes over."""
        self._moves += self.has_output
        self._started = None
        self.end = None

    def broken(self, why: str) -> Outcome:
        """The outcome on a neuron that broke the request off: before its first event it counts against the neuron. The
        death of a worker doesn't: one model's request may have caused it, and the neuron serves its other models."""
        died = isinstance(self.end, Failed) and self.end.code == "worker_died"
        early = self._started is None and not died
        return Outcome(OutcomeKind.BROKEN_EARLY if early else OutcomeKind.BROKEN_LATE, why)
