"""A circuit breaker per neuron, as a value: failures in, "may I try" out.

Connect errors and requests that die before their first event count; a success or a new boot closes it. Open, it lets
nothing through until the cool-down is over, then one probe at a time; each failed probe doubles the cool-down.
"""

from __future__ import annotations

from msgspec import Struct, structs

from cortex.wire.fleet import BreakerState

__all__ = ["COOLDOWN_S", "LONGEST_COOLDOWN_S", "THRESHOLD", "Breaker"]

THRESHOLD = 3
"""One lost connection is weather, three in a row are a climate."""
COOLDOWN_S = 2.0
LONGEST_COOLDOWN_S = 30.0


class Breaker(Struct, frozen=True):
    """`opened_at` is the clock's reading at the last failure that (re)opened it, None while closed."""

    failures: int = 0
    opened_at: float | None = None
    cooldown_s: float = COOLDOWN_S
    probing: bool = False

    def state(self, now: float) -> BreakerState:
        if self.opened_at is None:
            return "closed"
        return "half_open" if now - self.opened_at >= self.cooldown_s else "open"

    def allows(self, now: float) -> bool:
        """Whether a request may be sent; half open, only while no probe is out."""
        state = self.state(now)
        return state == "closed" or (state == "half_open" and not self.probing)

    def sent(self, now: float) -> Breaker:
        """A request goes out: in the half-open state it is the probe."""
        return structs.replace(self, probing=True) if self.state(now) == "half_open" else self

    def failed(self, now: float) -> Breaker:
        failures = self.failures + 1
        if self.opened_at is not None:
            longer = min(self.cooldown_s * 2, LONGEST_COOLDOWN_S) if self.state(now) == "half_open" else self.cooldown_s
            return Breaker(failures, now, longer)
        return Breaker(failures, now if failures >= THRESHOLD else None)

    def unprobed(self) -> Breaker:
        """The probe ended without a verdict (its client went away): another may be sent."""
        return structs.replace(self, probing=False)
