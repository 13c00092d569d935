"""Which request an emission belongs to: each running one is handed its events straight from the link's reader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from cortex.neuron.workers.process import Worker
from cortex.wire.events import Event, Failed, Finished
from cortex.wire.inference import Request
from cortex.wire.worker import Emission, RelayedEmission, RelayedEmissions

__all__ = ["LostWorker", "Relay", "Stream", "Streams", "events_of"]

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
class Stream:
    """`ended` gets what ended it; nothing is emitted after that."""

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
        if not self.ended.done():
            self.ended.set_result(LostWorker(reason))


class Streams:
    """Open while the request is served. Emissions for a closed stream are dropped: a cancel crosses
    events that were already on their way."""

    def __init__(self) -> None:
        self._open: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._open

    def open(self, stream: Stream) -> None:
        self._open[stream.request.id] = stream

    def close(self, request_id: str) -> None:
        self._open.pop(request_id, None)

    def get(self, request_id: str) -> Stream | None:
        return self._open.get(request_id)

    def feed(self, emissions: RelayedEmissions) -> None:
        for item in emissions.items:
            if stream := self._open.get(item.request_id):
                stream.feed(item)

    def lose(self, worker: Worker, reason: str) -> None:
        for stream in self._open.values():
            if stream.worker is worker:
                stream.lose(reason)
