"""Which request an emission belongs to: a queue per running request, fed straight from the link's reader."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from cortex.neuron.supervisor import Worker
from cortex.wire.events import Event
from cortex.wire.inference import Request
from cortex.wire.worker import Emissions

__all__ = ["LostWorker", "Stream", "Streams"]


@dataclass(frozen=True, slots=True)
class LostWorker:
    """In place of events: the worker died, with this reason, and nothing more will come."""

    reason: str


@dataclass(slots=True)
class Stream:
    request: Request
    worker: Worker
    started_at: float
    queue: asyncio.Queue[Sequence[Event] | LostWorker] = field(default_factory=asyncio.Queue)


class Streams:
    """Open while the request's backend iterator lives. Emissions for a closed stream are dropped: a cancel crosses
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

    def feed(self, emissions: Emissions) -> None:
        for item in emissions.items:
            if stream := self._open.get(item.request_id):
                stream.queue.put_nowait(item.events)

    def lose(self, worker: Worker, reason: str) -> None:
        for stream in self._open.values():
            if stream.worker is worker:
                stream.queue.put_nowait(LostWorker(reason))
