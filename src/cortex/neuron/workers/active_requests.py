"""The requests that are with a worker now; each gets its events on the stack of the link that read them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from cortex.neuron.workers.process import Worker
from cortex.wire.events import Event, Failed, Finished
from cortex.wire.inference import Request
from cortex.wire.worker import Emission, RelayedEmission, RelayedEmissions

__all__ = ["ActiveRequest", "ActiveRequests", "LostWorker", "Relay", "events_of"]

Relay = Callable[[Emission | RelayedEmission, Sequence[Event] | None], None]
"""Takes one batch of a request's events: as it can be sent on, and decoded. None in place of the events: the batch is
nothing but output, `deltas` pieces of it. Called from the event loop's thread; must not block or raise."""

_events: msgspec.msgpack.Decoder[list[Event]] = msgspec.msgpack.Decoder(list[Event])


def events_of(item: Emission | RelayedEmission) -> list[Event]:
    """Raises msgspec.DecodeError."""
    return item.events if isinstance(item, Emission) else _events.decode(item.events)


@dataclass(frozen=True, slots=True)
class LostWorker:
    """The worker died, with this reason, and nothing more will come."""

    reason: str


@dataclass(slots=True)
class ActiveRequest:
    """One request on `worker`. `ended` resolves to what ended it; nothing is emitted after that. `started_at` is in
    seconds of the loop's clock."""

    request: Request
    worker: Worker
    started_at: float
    emit: Relay
    ended: asyncio.Future[Finished | Failed | LostWorker] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def feed(self, item: RelayedEmission) -> None:
        """Raises msgspec.DecodeError for a batch that is no list of events."""
        if self.ended.done():
            return
        if item.deltas is not None:
            self.emit(item, None)
            return
        events = events_of(item)
        self.emit(item, events)
        last = events[-1]
        if isinstance(last, Finished | Failed):
            self.ended.set_result(last)

    def lose(self, reason: str) -> None:
        """End the request because its worker is gone. Idempotent."""
        if not self.ended.done():
            self.ended.set_result(LostWorker(reason))


class ActiveRequests:
    """Requests by id, while they are served. Emissions for an id that isn't here are dropped: a cancel crosses events
    that were already on their way. For the event loop only."""

    def __init__(self) -> None:
        self._by_id: dict[str, ActiveRequest] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, active: ActiveRequest) -> None:
        self._by_id[active.request.id] = active

    def remove(self, request_id: str) -> None:
        """Does nothing for an id that isn't here."""
        self._by_id.pop(request_id, None)

    def get(self, request_id: str) -> ActiveRequest | None:
        return self._by_id.get(request_id)

    def feed(self, emissions: RelayedEmissions) -> None:
        """Give each request its events of one engine step."""
        for item in emissions.items:
            if active := self._by_id.get(item.request_id):
                active.feed(item)

    def lose(self, worker: Worker, reason: str) -> None:
        """End every request of `worker` with LostWorker."""
        for active in self._by_id.values():
            if active.worker is worker:
                active.lose(reason)
