"""When a waiting client needs a keep-alive, and when waiting is over. Pure: time comes in as an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from cortex.config.settings import LimitsConfig

__all__ = ["Due", "Pacing"]


class Due(Enum):
    """What is due now."""

    NOTHING = "nothing"
    OPEN = "open"
    KEEPALIVE = "keepalive"
    STALLED = "stalled"
    DEADLINE = "deadline"


@dataclass(slots=True)
class Pacing:
    """One answer's timeouts, all in seconds of one monotonic clock.

    `due` is asked whenever `next_at` has come. 1 the whole request took too long; 2 generation had begun and then
    nothing came for `stall_s` (a long prefill or load is not a stall: their owners have deadlines of their own);
    3 nothing has come yet, so send the headers before the client gives up; 4 nothing was written for `keepalive_s`.
    """

    limits: LimitsConfig
    started: float
    keepalive_s: float
    streams: bool
    is_open: bool = False
    last_event: float = math.inf
    last_write: float = 0.0

    @classmethod
    def begin(cls, limits: LimitsConfig, now: float, streams: bool, keepalive_s: float | None) -> Pacing:
        """A negative `keepalive_s` is a client that wants no keep-alive; None takes the configured one."""
        interval = limits.keepalive_s if keepalive_s is None else keepalive_s
        return cls(limits, now, interval if interval > 0 else math.inf, streams, last_write=now)

    def on_events(self, now: float, generated: bool) -> None:
        """From the first `generated` piece on silence is a stall; any event breaks it, such as the progress of a
        stream that is being moved to another neuron."""
        if generated or self.last_event < math.inf:
            self.last_event = now

    def on_write(self, now: float) -> None:
        self.is_open = True
        self.last_write = now

    def next_at(self, now: float) -> float:
        """When to ask `due` again, if nothing else happens. What happens can only call for an earlier time than is
        known now by opening the answer or beginning it, so no wait is longer than what these would leave."""
        ends = [self._deadline, self._stall, now + self.limits.stall_s]
        if self.streams:
            ends += [now + self.keepalive_s, self.last_write + self.keepalive_s if self.is_open else self._open_by]
        return min(ends)

    def due(self, now: float) -> Due:
        if now >= self._deadline:
            return Due.DEADLINE  # 1
        if now >= self._stall:
            return Due.STALLED  # 2
        if self.streams and not self.is_open:
            return Due.OPEN if now >= self._open_by else Due.NOTHING  # 3
        if self.streams and now >= self.last_write + self.keepalive_s:
            return Due.KEEPALIVE  # 4
        return Due.NOTHING

    @property
    def _deadline(self) -> float:
        return self.started + self.limits.request_s

    @property
    def _stall(self) -> float:
        """Never before the first event: `last_event` is infinite until then."""
        return self.last_event + self.limits.stall_s

    @property
    def _open_by(self) -> float:
        return self.started + self.limits.first_event_s
