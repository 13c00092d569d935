"""Asks every neuron for its status: often while something happens there, ever more rarely while nothing does, and only
if the neuron hasn't told it lately by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from cortex.config.settings import GatewayConfig
from cortex.errors import CortexError
from cortex.gateway.neurons.client import Lost, Neurons
from cortex.gateway.neurons.fleet import Unreachable
from cortex.gateway.neurons.status_stream import StatusStream
from cortex.gateway.scheduling.loop import Loop
from cortex.wire.status import NeuronStatus

__all__ = ["Poller", "next_interval", "silence_left_s"]

logger = logging.getLogger(__name__)

_SWAPPING_S = 0.25
_BACK_OFF = 1.5
_HEARD_S = 3.0
"""A busy neuron that pushes its status does so every two seconds: one that is silent for longer is asked."""


def next_interval(last_s: float, busy_s: float, idle_s: float, *, busy: bool, swapping: bool, heard: bool) -> float:
    """Seconds of silence until the next poll: a load or a waiting queue wants to see each change, a busy neuron a fresh
    count, if the neuron isn't `heard`, that is, doesn't push them; an idle one is left alone for longer each time."""
    if swapping and not heard:
        return min(_SWAPPING_S, busy_s)
    if busy or swapping:
        return max(busy_s, _HEARD_S) if heard else busy_s
    return min(idle_s, max(last_s, busy_s) * _BACK_OFF)


def silence_left_s(asked_at: float, heard_at: float, interval_s: float, now: float) -> float:
    """Seconds until the next poll of a neuron that may go on speaking by itself."""
    return max(asked_at, heard_at) + interval_s - now


class Poller:
    """Two tasks per neuron, one that asks and one that listens. What they learn goes to the loop; they keep nothing."""

    def __init__(self, neurons: Neurons, loop: Loop, config: Callable[[], GatewayConfig]) -> None:
        self._neurons = neurons
        self._loop = loop
        self._config = config
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._feeds: dict[str, StatusStream] = {}

    def follow_fleet(self) -> None:
        """Begin to follow each new neuron, let removed ones go."""
        names = set(self._loop.scheduler.state.fleet.neurons)
        for name in names - self._tasks.keys():
            self._wakes[name] = asyncio.Event()
            feed = self._feeds[name] = StatusStream(name, self._neurons, self._loop, self.wake)
            self._tasks[name] = [
                asyncio.create_task(self._follow(name), name=f"poll {name}"),
                asyncio.create_task(feed.follow(), name=f"listen to {name}"),
            ]
        for name in self._tasks.keys() - names:
            for task in self._tasks.pop(name):
                task.cancel()
            del self._wakes[name], self._feeds[name]

    def hears(self, name: str) -> bool:
        """Whether the neuron pushes its status to us."""
        feed = self._feeds.get(name)
        return feed is not None and feed.live

    def wake(self, name: str) -> None:
        """Poll soon: what is known is doubtful."""
        if wake := self._wakes.get(name):
            wake.set()

    async def poll(self, name: str) -> None:
        """One question and its answer, told to the loop before this returns."""
        neuron = self._loop.scheduler.state.fleet.get(name)
        if neuron is None:
            return
        try:
            status = await self._neurons.status(neuron)
        except Lost as lost:
            self._tell_missed(name, lost.unreachable)
        except CortexError as error:
            self._tell_missed(name, Unreachable(f"it answers with an error: {error.message}", refused=True))
        else:
            self._loop.post(lambda scheduler, now: scheduler.on_status(name, status, now))

    async def first_round(self) -> None:
        """Ask everybody once, so that the first client finds the models there are."""
        await asyncio.gather(*(self.poll(name) for name in self._loop.scheduler.state.fleet.neurons))

    async def aclose(self) -> None:
        tasks, self._tasks = [task for pair in self._tasks.values() for task in pair], {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, name: str) -> None:
        interval_s = 0.0
        while True:
            interval_s = self._interval(name, interval_s)
            await self._silence(name, interval_s)
            await self.poll(name)

    async def _silence(self, name: str, interval_s: float) -> None:
        """Returns when the neuron has been silent for so long (or for less, should it become busy), or at a wake."""
        wake, feed, clock = self._wakes[name], self._feeds[name], asyncio.get_running_loop().time
        begun = clock()
        while not wake.is_set() and (left_s := silence_left_s(begun, feed.heard_at, interval_s, clock())) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await wake.wait()
            interval_s = min(interval_s, self._interval(name, interval_s))
        wake.clear()

    def _interval(self, name: str, last_s: float) -> float:
        state, config = self._loop.scheduler.state, self._config()
        neuron = state.fleet.get(name)
        waiting = any(queue.waiting for queue in state.queues.values())
        ordered = any(order.command.neuron == name for order in state.orders.all())
        busy = bool(neuron and neuron.status and _is_busy(neuron.status)) or state.in_flight_on(name) > 0
        return next_interval(
            last_s,
            config.poll_busy_s,
            config.poll_idle_s,
            busy=busy,
            swapping=waiting or ordered,
            heard=self.hears(name),
        )

    def _tell_missed(self, name: str, error: Unreachable) -> None:
        known = self._loop.scheduler.state.fleet.get(name)
        if known is not None and known.reason != error.why:
            logger.warning("neuron doesn't answer", extra={"neuron": name, "why": error.why})
        self._loop.post(lambda scheduler, now: scheduler.on_unreachable(name, error, now))


def _is_busy(status: NeuronStatus) -> bool:
    return any(model.running or model.waiting or model.state in ("loading", "unloading") for model in status.models)
