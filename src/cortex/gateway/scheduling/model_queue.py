"""The queue of one model: its running jobs, its waiting jobs, and which are rejected when it is full.

Pure; changed by the scheduler alone.

Order of service: named principals before anonymous ones, those below their share before those at it, then first
come, first served. Nobody is held back while nobody else waits.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from msgspec import Struct

from cortex.gateway.scheduling.effects import Job
from cortex.wire.events import Progress

__all__ = ["Bounds", "ModelQueue", "Ticket"]

_FORGETTING = 0.2
_LONGEST_RETRY_S = 120


class Bounds(Struct, frozen=True):
    """`in_flight` per loaded copy; `queue` waiters beyond what runs; `per_principal` at once while others wait."""

    in_flight: int = 8
    queue: int = 8
    queue_s: float = 30.0
    per_principal: int = 2


@dataclass(slots=True)
class Ticket:
    """A job in its queue: waiting since `queued_at` until `neuron` is set.

    `avoid` are neurons that broke it off, `file` is the hash of the GGUF that it ran on there: token ids mean the same
    in the same file only. `hashes` are its prefix hashes, computed when there is a choice of copies; `sent` is the last
    progress that was sent to its client.
    """

    job: Job
    queued_at: float
    avoid: set[str] = field(default_factory=set)
    file: str | None = None
    neuron: str | None = None
    granted_at: float = 0.0
    hashes: list[int] | None = None
    sent: Progress | None = None
    tries: int = 0

    @property
    def principal(self) -> str | None:
        return self.job.principal


class ModelQueue:
    """`waiting` is in order of arrival; a job that a neuron broke off goes back to the front."""

    def __init__(self, model: str, bounds: Bounds) -> None:
        self.model = model
        self.bounds = bounds
        self.waiting: list[Ticket] = []
        self.running: dict[str, Ticket] = {}
        self.service_s = 1.0

    def join(self, ticket: Ticket) -> None:
        self.waiting.append(ticket)

    def rejoin(self, ticket: Ticket, now: float) -> None:
        del self.running[ticket.job.id]
        ticket.neuron, ticket.queued_at = None, now
        self.waiting.insert(0, ticket)

    def start(self, ticket: Ticket, neuron: str, now: float) -> None:
        self.waiting.remove(ticket)
        ticket.neuron, ticket.granted_at = neuron, now
        self.running[ticket.job.id] = ticket

    def leave(self, job_id: str, now: float) -> Ticket | None:
        """Take the job out, wherever it is; None if it has already left."""
        ticket = self.running.pop(job_id, None)
        if ticket is not None:
            self.service_s += _FORGETTING * (now - ticket.granted_at - self.service_s)
            return ticket
        ticket = next((waiter for waiter in self.waiting if waiter.job.id == job_id), None)
        if ticket is not None:
            self.waiting.remove(ticket)
        return ticket

    def next(self) -> Ticket | None:
        """The waiter that gets the next place."""
        if len(self.waiting) < 2:
            return self.waiting[0] if self.waiting else None
        held = Counter(ticket.principal for ticket in self.running.values())
        return min(self.waiting, key=lambda ticket: self._rank(ticket, held), default=None)

    def overflow(self, copies: int) -> list[Ticket]:
        """Take out and return the waiters beyond the bound: the newest of whoever takes most places."""
        excess = self.in_flight + self.requests_waiting - self.bounds.in_flight * max(copies, 1) - self.bounds.queue
        return [self._pop_heaviest() for _ in range(min(excess, self.requests_waiting))]

    def retry_after(self) -> int:
        """Whole seconds until a place is likely free."""
        rounds = (self.requests_waiting + self.bounds.in_flight) / max(self.bounds.in_flight, 1)
        return max(1, min(_LONGEST_RETRY_S, math.ceil(self.service_s * rounds)))

    @property
    def in_flight(self) -> int:
        return len(self.running)

    @property
    def requests_waiting(self) -> int:
        """Waiters that want to run; operators' load orders take no place in the queue."""
        return sum(ticket.job.request is not None for ticket in self.waiting)

    def oldest_wait_s(self, now: float) -> float:
        return max((now - ticket.queued_at for ticket in self.waiting), default=0.0)

    def total_wait_s(self, now: float) -> float:
        """Seconds waited by all waiters together: many that have just come weigh as much as one that waited long."""
        return sum(now - ticket.queued_at for ticket in self.waiting)

    def _rank(self, ticket: Ticket, held: Counter[str | None]) -> tuple[bool, bool, int]:
        named = ticket.principal is not None
        at_share = named and held[ticket.principal] >= self.bounds.per_principal
        urgency = ticket.job.request.priority if ticket.job.request else 0
        return (not named, at_share, -urgency)

    def _pop_heaviest(self) -> Ticket:
        """Take out an anonymous waiter before a named one, then one of the principal with most waiters; of those the
        last that came."""
        requests = [ticket for ticket in self.waiting if ticket.job.request is not None]
        weight = Counter(ticket.principal for ticket in requests)
        heaviest = max(
            enumerate(requests),
            key=lambda item: (item[1].principal is None, weight[item[1].principal], item[0]),
        )[1]
        self.waiting.remove(heaviest)
        return heaviest
