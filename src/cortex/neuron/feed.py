"""`GET /events`: the neuron's status, pushed whenever something changed that decisions depend on, as frames.

What changed is found by looking, ten times a second and only while somebody listens: a look reads a few fields, and
no place that changes something has to remember to tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from cortex.neuron.residency import Residency
from cortex.serving.lifecycle import Lifecycle
from cortex.wire.framing import encode_frame
from cortex.wire.status import NeuronStatus

__all__ = ["status_frames"]

_LOOK_S = 0.1
_QUIET_S = 10.0
"""So often something is sent at least: a listener that hears nothing for much longer knows that we are gone."""


async def status_frames(
    residency: Residency, lifecycle: Lifecycle, status: Callable[[], NeuronStatus]
) -> AsyncGenerator[bytes, None]:
    """The status at once, after every change and every ten seconds; the last one, at a drain, says so."""
    drain = asyncio.ensure_future(lifecycle.wait_for_drain())
    clock = asyncio.get_running_loop().time
    told: object = None
    told_at = 0.0
    try:
        while not drain.done():
            seen = _digest(residency)
            if seen != told or clock() - told_at >= _QUIET_S:
                told, told_at = seen, clock()
                yield encode_frame(status())
            await asyncio.wait({drain}, timeout=_LOOK_S)
        yield encode_frame(status())
    finally:
        drain.cancel()


def _digest(residency: Residency) -> object:
    """Equal as long as nothing happened that a gateway would decide differently on, or show to those who wait."""
    holdings = residency.holdings
    models = [
        (model, resident.servable, loading and (loading.stage, int(loading.progress * 100)))
        for model, resident in holdings.residents.items()
        for loading in [resident.loading]
    ]
    workers = [(worker.id, worker.state, worker.restarts) for worker in holdings.pool.all()]
    return holdings.revision, workers, models
