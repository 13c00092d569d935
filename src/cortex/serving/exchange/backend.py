"""The interface between HTTP and inference: a neuron serves from its own workers, a gateway from the fleet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cortex.wire.events import Event
from cortex.wire.inference import Request
from cortex.wire.status import ModelStatus

__all__ = ["Backend", "Emit"]

Emit = Callable[[Sequence[Event]], None]
"""Takes one batch of a request's events (at least one). A plain call that never waits and never raises, made on the
stack of whoever has the events: no task wakes for a token. Called from the event loop's thread only."""


class Backend(Protocol):
    """Runs requests and knows models."""

    async def serve(self, request: Request, emit: Emit) -> None:
        """Emits the request's events in the order of `wire.events`; exactly one Finished or Failed is the last event.

        Returns soon after that; failures are events, no CortexError is raised. Cancelling the task that runs this
        cancels the request, at any point; then the last event may be missing.
        """
        ...

    def models(self) -> list[tuple[ModelStatus, list[str]]]:
        """Every model that is or can be served, with the neurons that have it loaded."""
        ...

    def resolve(self, name: str) -> str:
        """The model id for the name that a client sent: id, alias, `claude-*` alias, "" for the default.

        Raises ModelNotFound naming the ids that exist, BadRequest when nothing was named and there is no default.
        """
        ...

    def ready(self) -> bool:
        """Whether new requests are taken (False while draining)."""
        ...
