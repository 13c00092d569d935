"""Waking by the clock, all at once."""

from __future__ import annotations

import asyncio

__all__ = ["tick", "to_next_s"]


async def tick(period_s: float) -> None:
    """Sleep until the next whole multiple of `period_s` on the loop's clock.

    A process that sleeps pays most of its CPU for waking up and for caches that have gone cold; so everything it does
    by the clock it does in one wake.
    """
    await asyncio.sleep(to_next_s(period_s, asyncio.get_running_loop().time()))


def to_next_s(period_s: float, now: float) -> float:
    """Seconds from `now` to the next whole multiple of `period_s`; never 0."""
    return period_s - now % period_s
