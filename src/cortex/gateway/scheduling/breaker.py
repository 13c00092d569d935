"""A circuit breaker per copy of a model, as a value: whether requests may be sent, by earlier ones' failures. Pure.

Connect errors and requests that fail before their first event count; a success or a new boot closes it. Open, it lets
nothing through until the cool-down is over, then one trial request at a time; each that fails doubles the cool-down.
"""

from __future__ import annotations

from msgspec import Struct, structs

from cortex.wire.fleet import BreakerState

__all__ = ["COOLDOWN_S", "LONGEST_COOLDOWN_S", "THRESHOLD", "Breaker"]

THRESHOLD = 3
"""Consecutive failures that open the breaker."""
COOLDOWN_S = 2.0
LONGEST_COOLDOWN_S = 30.0


class Breaker(Struct, frozen=True):
    """`opened_at` is the time of the last failure that (re)opened it, None while closed. `on_trial`: a trial request is
    under way. Times are seconds of the gateway's clock."""

    failures: int = 0
    opened_at: float | None = None
    cooldown_s: float = COOLDOWN_S
    on_trial: bool = False

    def state(self, now: float) -> BreakerState:
        if self.opened_at is None:
            return "closed"
        return "half_open" if now - self.opened_at >= self.cooldown_s else "open"

    def allows(self, now: float) -> bool:
        """Whether a request may be sent; half open, only while no trial request is under way."""
        state = self.state(now)
        return state == "closed" or (state == "half_open" and not self.on_trial)

    def sent(self, now: float) -> Breaker:
        """After a request was sent: half open, it is the trial."""
        return structs.replace(self, on_trial=True) if self.state(now) == "half_open" else self

    def failed(self, now: float) -> Breaker:
        """After a failure that counts."""
        failures = self.failures + 1
        if self.opened_at is not None:
            longer = min(self.cooldown_s * 2, LONGEST_COOLDOWN_S) if self.state(now) == "half_open" else self.cooldown_s
            return Breaker(failures, now, longer)
        return Breaker(failures, now if failures >= THRESHOLD else None)

    def undecided(self) -> Breaker:
        """After a trial request that neither failed nor succeeded (its client went away): another may be sent."""
        return structs.replace(self, on_trial=False)
