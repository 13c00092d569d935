"""The neuron's status, sent to its gateways whenever something changed that decisions depend on.

What changed is found by looking, after every hint that something may have: they come with every notice of a worker but
emissions, with every state change of a model, and from the watchdog each second, so that nothing is missed for longer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cortex.neuron.models.manager import ModelManager
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.wire.connection import StatusPush
from cortex.wire.status import NeuronStatus

__all__ = ["StatusPushes"]

_QUIET_S = 5.0
"""A status is sent at least this often: a gateway that receives nothing for much longer takes the neuron for down."""
_BUSY_S = 2.0
"""And this often while requests run, and once after them: counts, cells and prefixes change all the time then."""

Push = Callable[[StatusPush], None]


@dataclass(slots=True)
class _Told:
    """What a gateway was sent last, and when."""

    digest: object = None
    at: float = 0.0
    busy: bool = False


class StatusPushes:
    """Made once per neuron; `status` makes the document. Event loop's thread only."""

    def __init__(
        self,
        manager: ModelManager,
        lifecycle: Lifecycle,
        status: Callable[[], NeuronStatus],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager = manager
        self._lifecycle = lifecycle
        self._status = status
        self._clock = clock
        self._told: dict[Push, _Told] = {}
        self._is_due = False

    @contextmanager
    def to(self, push: Push) -> Iterator[None]:
        """Meanwhile `push` is called with the status: at once, after every change, and every few seconds."""
        self._told[push] = _Told()
        drain = asyncio.ensure_future(self._lifecycle.wait_for_drain())
        drain.add_done_callback(lambda _: self._on_hint())
        if len(self._told) == 1:
            self._manager.registry.changes.subscribe(self._on_hint)
        try:
            self.push(push)
            yield
        finally:
            drain.cancel()
            del self._told[push]
            if not self._told:
                self._manager.registry.changes.unsubscribe(self._on_hint)

    def push(self, push: Push) -> None:
        """Send the status to one gateway now."""
        if push in self._told:
            self._told[push] = _Told(self._digest(), self._clock(), self._busy())
            push(StatusPush(self._status()))

    def _on_hint(self) -> None:
        """However many hints come in one turn of the event loop, the state is read once."""
        if not self._is_due and self._told:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._is_due = False
        digest, busy, now = self._digest(), self._busy(), self._clock()
        due = [
            push
            for push, told in self._told.items()
            if told.digest != digest or now - told.at >= (_BUSY_S if busy or told.busy else _QUIET_S)
        ]
        if due:
            status = StatusPush(self._status())
            for push in due:
                self._told[push] = _Told(digest, now, busy)
                push(status)

    def _busy(self) -> bool:
        return any(managed.busy for managed in self._manager.registry.models.values())

    def _digest(self) -> object:
        """Equal as long as nothing happened that a gateway would decide differently on, or show to those who wait."""
        registry = self._manager.registry
        models = [
            (model, managed.servable, loading and (loading.stage, int(loading.progress * 100)))
            for model, managed in registry.models.items()
            for loading in [managed.loading]
        ]
        workers = [(worker.id, worker.state, worker.restarts) for worker in registry.pool.all()]
        return self._lifecycle.draining, registry.revision, workers, models
