"""The seam between HTTP and inference: a neuron serves from its own workers, a gateway from the fleet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from cortex.wire.events import Event
from cortex.wire.inference import Request
from cortex.wire.status import ModelStatus

__all__ = ["Backend", "Tap"]


class Tap(Protocol):
    """A short way for the middle of an answer: a batch is passed to the client on the stack of whoever has it, and no
    task wakes for it."""

    def ready(self) -> bool:
        """Whether everything before has been written and the client takes more."""
        ...

    def put(self, events: Sequence[Event]) -> None:
        """Only when `ready`, when everything yielded has been taken, and never a Finished or Failed."""
        ...


class Backend(Protocol):
    """Runs requests and knows models.

    `infer` yields batches of events in the order of `wire.events`, ending with exactly one Finished or Failed: it
    reports failure as an event and doesn't raise CortexError. Closing the iterator (`aclose`) cancels the request, at
    any point, and returns when the cancel is on its way. A backend may put batches into `tap` instead of yielding them.
    """

    def infer(self, request: Request, tap: Tap | None = None) -> AsyncGenerator[Sequence[Event], None]: ...

    def models(self) -> list[tuple[ModelStatus, list[str]]]:
        """Every model that is or can be served, with the neurons that have it loaded."""
        ...

    def resolve(self, name: str) -> str:
        """The model id behind a client's word: id, alias, `claude-*` alias, "" for the default.

        Raises ModelNotFound naming the ids that exist, BadRequest when nothing was named and there is no default.
        """
        ...

    def ready(self) -> bool:
        """Whether new requests are taken (False while draining)."""
        ...
