"""`GET /events`: the neuron's status, pushed whenever something changed that decisions depend on, as frames.

What changed is found by looking, whenever there is word of a change: it comes with every word of a worker but tokens,
with every move of a model, and from the watchdog each second, so that nothing is missed for longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from cortex.neuron.models.manager import ModelManager
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.wire.framing import encode_frame
from cortex.wire.status import NeuronStatus

__all__ = ["status_frames"]

_QUIET_S = 10.0
"""So often something is sent at least: a listener that hears nothing for much longer knows that we are gone."""
_BUSY_S = 2.0
"""And so often while requests run, and once behind them: counts, cells and prefixes change all the time then."""


async def status_frames(
    manager: ModelManager, lifecycle: Lifecycle, status: Callable[[], NeuronStatus]
) -> AsyncGenerator[bytes, None]:
    """The status at once, after every change and every ten seconds (two while requests run); the last one, at a drain,
    says so."""
    drain = asyncio.ensure_future(lifecycle.wait_for_drain())
    clock = asyncio.get_running_loop().time
    told, told_at, told_busy = object(), 0.0, False
    try:
        with manager.registry.changes.followed() as news:
            drain.add_done_callback(lambda _: news.set())
            while not drain.done():
                news.clear()
                seen, busy = _digest(manager), _busy(manager)
                if seen != told or clock() - told_at >= (_BUSY_S if busy or told_busy else _QUIET_S):
                    told, told_at, told_busy = seen, clock(), busy
                    yield encode_frame(status())
                await news.wait()
        yield encode_frame(status())
    finally:
        drain.cancel()


def _busy(manager: ModelManager) -> bool:
    return any(managed.busy for managed in manager.registry.models.values())


def _digest(manager: ModelManager) -> object:
    """Equal as long as nothing happened that a gateway would decide differently on, or show to those who wait."""
    registry = manager.registry
    models = [
        (model, managed.servable, loading and (loading.stage, int(loading.progress * 100)))
        for model, managed in registry.models.items()
        for loading in [managed.loading]
    ]
    workers = [(worker.id, worker.state, worker.restarts) for worker in registry.pool.all()]
    return registry.revision, workers, models
