"""The single writer of the gateway's state: passes events to the scheduler and carries out the effects that it returns.

Everything that changes the scheduler's state passes `post`, one event at a time and to its end; what is posted while an
effect is carried out is queued behind. There is no task in between: a request that can run is granted before `post`
returns.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from cortex.gateway.scheduling.effects import Effect
from cortex.gateway.scheduling.scheduler import Scheduler

__all__ = ["Event", "Loop"]

Event = Callable[[Scheduler, float], Iterable[Effect]]
"""One call of the scheduler: `lambda scheduler, now: scheduler.on_cancel(job_id, now)`."""


class Loop:
    """`perform` carries out one effect and doesn't block. All calls come from the thread of the event loop. Others may
    read `scheduler.state`, but must not act on what they read: they post an event, and the scheduler decides."""

    def __init__(
        self, scheduler: Scheduler, perform: Callable[[Effect], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.scheduler = scheduler
        self.clock = clock
        self._perform = perform
        self._inbox: deque[Event] = deque()
        self._running = False

    def post(self, event: Event) -> None:
        self._inbox.append(event)
        if self._running:
            return
        self._running = True
        try:
            while self._inbox:
                for effect in self._inbox.popleft()(self.scheduler, self.clock()):
                    self._perform(effect)
        finally:
            self._running = False
