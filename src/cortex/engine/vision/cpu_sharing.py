"""The CPU's cores, which the loop's steps and an image's encoding use in turns.

ggml's threads spin while they wait for each other. Two computations at once on the same cores, each with a thread for
every core, would mostly spin: each then runs at a small part of the speed that half of the time would give it.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["CpuSharing", "Side"]

_SLICE_S = 0.05
"""How long each side goes on while the other waits: a step of the loop is of that order on a CPU, or much shorter."""


class Side(enum.Enum):
    LOOP = "loop"
    ENCODER = "encoder"


class CpuSharing:
    """One side at a time, and half of the time for each where both want to compute.

    The loop's turn is as many steps as fit a slice; what it does between them (sampling, sockets) is part of it. The
    encoder's is what it does between two calls of `pause`. A wait ends with the other side's slice.
    """

    def __init__(self, slice_s: float = _SLICE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._slice_s = slice_s
        self._clock = clock
        self._changed = threading.Condition()
        self._running: Side | None = None
        self._last: Side | None = None
        self._waiting: set[Side] = set()
        self._slice_ends = 0.0

    @contextmanager
    def of(self, side: Side) -> Iterator[None]:
        self._take(side)
        try:
            yield
        finally:
            self._give()

    def pause(self) -> None:
        """The encoder may be interrupted here: let the loop in if it waits and the slice is over."""
        with self._changed:
            if Side.LOOP in self._waiting and self._clock() >= self._slice_ends:
                self._waiting.add(
                    Side.ENCODER
                )  # before the loop takes over: it sees that there is somebody to share with
                self._give()
                self._take(Side.ENCODER)

    def _take(self, side: Side) -> None:
        with self._changed:
            self._waiting.add(side)
            while not self._may(side):
                self._changed.wait(self._slice_s)
            self._waiting.discard(side)
            if self._last is not side:
                shared = side is Side.ENCODER or self._waiting  # alone, the loop holds nobody up behind its step
                self._slice_ends = self._clock() + (self._slice_s if shared else 0.0)
            self._running = self._last = side

    def _may(self, side: Side) -> bool:
        if self._running is not None:
            return False
        over = self._clock() >= self._slice_ends
        if self._last is side:
            return not over or self._waiting == {side}
        return over or self._last is not Side.LOOP

    def _give(self) -> None:
        with self._changed:
            self._running = None
            self._changed.notify_all()
