"""A Backend that plays scripts: what it says, when, and what it saw, is the test's to decide."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cortex.errors import BadRequest, ModelNotFound
from cortex.serving.exchange.backend import Emit
from cortex.wire.events import ChoiceFinished, Event, Failed, Finished, Started, TextDelta, Usage
from cortex.wire.inference import Request
from cortex.wire.status import Capabilities, Limits, ModelCard, ModelStatus

__all__ = ["FakeBackend", "Pause", "plain"]

Step = Sequence[Event] | asyncio.Event | Exception
"""A batch to emit, an event to wait for, or an exception to raise."""


class Pause(asyncio.Event):
    """A step that waits until the test sets it. `reached` is set when the script gets there."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def wait(self) -> bool:  # type: ignore[override]
        self.reached.set()
        await super().wait()
        return True


def plain(*pieces: str, prompt: int = 7) -> list[Step]:
    """A whole good answer, one batch a piece."""
    usage = Usage(prompt_tokens=prompt, cached_tokens=2, completion_tokens=len(pieces))
    return [
        [Started(prompt, 2)],
        *([TextDelta(piece)] for piece in pieces),
        [ChoiceFinished("stop"), Finished(usage)],
    ]


def _card() -> ModelCard:
    return ModelCard(
        "acme/demo-1B",
        Limits(context=4096),
        Capabilities(tools=True, reasoning=True),
        aliases=["demo"],
        created=1700000000,
    )


@dataclass
class FakeBackend:
    """`script` makes the steps for each request. `requests` are those begun, `cancelled` the ids whose task was
    cancelled or failed before the end, `ended` is set whenever one is over, either way."""

    script: Callable[[Request], Sequence[Step]] = lambda _: plain("Hello", ", world")
    requests: list[Request] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    running: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    statuses: list[tuple[ModelStatus, list[str]]] = field(
        default_factory=lambda: [(ModelStatus(_card(), state="ready", servable=True, context=4096), ["beast"])]
    )
    is_ready: bool = True

    async def serve(self, request: Request, emit: Emit) -> None:
        self.requests.append(request)
        self.running += 1
        self.begun.set()
        finished = False
        try:
            for step in self.script(request):
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    finished = isinstance(step[-1], Finished | Failed)
                    emit(step)
                    await asyncio.sleep(0)  # as between two reads: what ends the request meanwhile ends it here
        finally:
            self.running -= 1
            if not finished:
                self.cancelled.append(request.id)
            self.ended.set()

    def models(self) -> list[tuple[ModelStatus, list[str]]]:
        return self.statuses

    def resolve(self, name: str) -> str:
        if not name:
            raise BadRequest("model is required", param="model")
        for status, _ in self.statuses:
            if name in {status.card.id, *status.card.aliases}:
                return status.card.id
        known = ", ".join(status.card.id for status, _ in self.statuses)
        raise ModelNotFound(f"there is no model {name!r}; there are: {known}", param="model")

    def ready(self) -> bool:
        return self.is_ready
