"""Whether this process takes new requests, and which ones are still running."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cortex.errors import Draining

__all__ = ["Lifecycle"]


class Lifecycle:
    """Written by the server (signals) and by each exchange for itself; everyone else reads.

    Serving → draining (new requests are refused, running ones go on) → aborting (`drain_s` later, running ones are
    ended with an error their client understands).
    """

    def __init__(self, drain_s: float = 30.0) -> None:
        self.drain_s = drain_s
        self.draining = False
        self._aborts: set[Callable[[], None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._drain_begun = asyncio.Event()

    @property
    def in_flight(self) -> int:
        return len(self._aborts)

    def begin_drain(self) -> None:
        self.draining = True
        self._drain_begun.set()

    def refuse_when_draining(self) -> None:
        """Raises Draining, with the seconds after which a successor can be expected."""
        if self.draining:
            message = "the server is shutting down and takes no new requests; try again shortly"
            raise Draining(message, retry_after=max(1, math.ceil(self.drain_s)))

    @contextmanager
    def running(self, abort: Callable[[], None]) -> Iterator[None]:
        """Counts one request in flight; `abort` is called if the drain's time runs out first. Raises Draining."""
        self.refuse_when_draining()
        self._aborts.add(abort)
        self._idle.clear()
        try:
            yield
        finally:
            self._aborts.discard(abort)
            if not self._aborts:
                self._idle.set()

    async def wait_for_drain(self) -> None:
        """Returns when draining begins: for streams without an end of their own, such as event streams."""
        await self._drain_begun.wait()

    async def wait_until_idle(self, timeout_s: float) -> bool:
        """True when nothing is in flight any more, False when `timeout_s` passed first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def abort_running(self) -> None:
        """Ends what is still in flight. Each exchange answers its client and leaves `running` by itself."""
        for abort in list(self._aborts):
            abort()
