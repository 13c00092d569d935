"""One neuron's own word: it pushes its status whenever something changes there, and the loop hears of it at once.

Polling is all there is while the feed is broken or silent. Both bring the same document to the same place.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import aclosing

from cortex.errors import CortexError
from cortex.gateway.neurons.client import Lost, Neurons
from cortex.gateway.scheduling.loop import Loop
from cortex.wire.status import NeuronStatus

__all__ = ["StatusStream", "retry_s"]

logger = logging.getLogger(__name__)

_LONGEST_RETRY_S = 5.0
"""Short, since a neuron that comes back is then known before the next idle poll."""


def retry_s(failures: int) -> float:
    """Seconds until the next try after so many in a row that brought nothing."""
    return min(_LONGEST_RETRY_S, 0.25 * 2.0 ** min(failures, 10))


class StatusStream:
    """`live` while the neuron is heard, last at `heard_at` on asyncio's clock. `on_silence` is called when it isn't any
    more: its end shows here first."""

    def __init__(self, name: str, neurons: Neurons, loop: Loop, on_silence: Callable[[str], None]) -> None:
        self.live = False
        self.heard_at = -math.inf
        self._name = name
        self._neurons = neurons
        self._loop = loop
        self._on_silence = on_silence

    async def follow(self) -> None:
        """Listen, and listen again after every break. Until cancelled."""
        failures = 0
        while True:
            failures = 0 if await self._listen() else failures + 1
            await asyncio.sleep(retry_s(failures))

    async def _listen(self) -> bool:
        """One connection, to its end; whether anything came that promises more. A draining neuron has said its last."""
        heard = last = False
        neuron = self._loop.scheduler.state.fleet.get(self._name)
        if neuron is None:
            return False
        try:
            async with aclosing(self._neurons.statuses(neuron)) as statuses:
                async for status in statuses:
                    known = self._loop.scheduler.state.fleet.get(self._name)
                    if known is None or known.endpoint != neuron.endpoint:
                        break  # another neuron has this name by now
                    heard = self.live = True
                    self.heard_at = asyncio.get_running_loop().time()
                    last = status.state == "draining"
                    self._hear(status)
        except (Lost, CortexError) as error:
            logger.debug("feed broke", extra={"neuron": self._name, "why": str(error)})
        finally:
            self.live = False
        if heard:
            self._on_silence(self._name)
        return heard and not last

    def _hear(self, status: NeuronStatus) -> None:
        self._loop.post(lambda scheduler, now: scheduler.on_status(self._name, status, now))
