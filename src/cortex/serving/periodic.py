"""Sleeping until common points in time, so that all periodic work of a process happens in one wake-up."""

from __future__ import annotations

import asyncio

__all__ = ["tick", "to_next_s"]


async def tick(period_s: float) -> None:
    """Sleeps until the next multiple of `period_s` on the event loop's clock.

    An idle process spends most of its CPU time on waking up and on cold caches: a wake-up took 80 µs in a virtual
    machine (docs/explanation/performance-diary.md). Tasks with equal or multiple periods wake up together.
    """
    await asyncio.sleep(to_next_s(period_s, asyncio.get_running_loop().time()))


def to_next_s(period_s: float, now: float) -> float:
    """Seconds from `now` to the next multiple of `period_s`; never 0."""
    return period_s - now % period_s
