"""The short way into an answer, for batches that come outside its relay's task."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from cortex.serving.exchange.answers import Answer
from cortex.serving.exchange.eager import begin
from cortex.wire.events import Event

__all__ = ["AnswerTap"]


@dataclass(frozen=True, slots=True)
class AnswerTap:
    """Implements `backend.Tap`. A write that has to wait for its client goes on in a task, and the tap isn't ready
    meanwhile: what comes then is yielded, and waits behind that write."""

    answer: Answer
    pass_on: Callable[[Sequence[Event]], Coroutine[None, None, None]]
    spawn: Callable[[Coroutine[None, None, None]], object]

    def ready(self) -> bool:
        return not self.answer.is_writing

    def put(self, events: Sequence[Event]) -> None:
        rest = begin(self.pass_on(events))
        if rest is not None:
            self.spawn(rest)
