"""Shares the CPU's cores between the loop's steps and an image's encoding, one at a time.

ggml's threads spin while they wait for each other. Two computations at once on the same cores, each with a thread for
every core, would mostly spin: each would run far slower than with half of the time for itself
(docs/explanation/decisions.md).
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["CpuSharing", "CpuUser"]

_SLICE_S = 0.05
"""How long one user computes while the other waits: about a decode step on a CPU (8 streams of SmolLM2 on 2 cores)."""


class CpuUser(enum.Enum):
    LOOP = "loop"
    ENCODER = "encoder"


class CpuSharing:
    """A lock with time slices: half of the time for each user where both want to compute. For any two threads.

    The loop's slice is as many steps as fit; what it does between them (sampling, sockets) is part of it. The encoder's
    slice is what it computes between two calls of `pause`. A wait ends with the other user's slice.
    """

    def __init__(self, slice_s: float = _SLICE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._slice_s = slice_s
        self._clock = clock
        self._changed = threading.Condition()
        self._running: CpuUser | None = None
        self._last: CpuUser | None = None
        self._waiting: set[CpuUser] = set()
        self._slice_ends = 0.0

    @contextmanager
    def slice_of(self, user: CpuUser) -> Iterator[None]:
        """Wait for the cores and hold them inside."""
        self._acquire(user)
        try:
            yield
        finally:
            self._release()

    def pause(self) -> None:
        """Called by the encoder between two pieces: let the loop compute if it waits and the slice is over."""
        with self._changed:
            if CpuUser.LOOP in self._waiting and self._clock() >= self._slice_ends:
                # waiting before the loop acquires, so that the loop's slice is limited
                self._waiting.add(CpuUser.ENCODER)
                self._release()
                self._acquire(CpuUser.ENCODER)

    def _acquire(self, user: CpuUser) -> None:
        with self._changed:
            self._waiting.add(user)
            while not self._may(user):
                self._changed.wait(self._slice_s)
            self._waiting.discard(user)
            if self._last is not user:
                # alone, the loop delays nobody after its step
                shared = user is CpuUser.ENCODER or self._waiting
                self._slice_ends = self._clock() + (self._slice_s if shared else 0.0)
            self._running = self._last = user

    def _may(self, user: CpuUser) -> bool:
        if self._running is not None:
            return False
        over = self._clock() >= self._slice_ends
        if self._last is user:
            return not over or self._waiting == {user}
        return over or self._last is not CpuUser.LOOP

    def _release(self) -> None:
        with self._changed:
            self._running = None
            self._changed.notify_all()
