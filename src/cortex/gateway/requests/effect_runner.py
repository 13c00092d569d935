"""Carries out what the scheduler decided: messages to waiting requests, orders to neurons. Decisions are logged here.

An order is a task of its own and outlives whoever asked for it. Before its reply the neuron sends the status that
shows the outcome, so the scheduler sees it before it is told that the order was answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from cortex.errors import Conflict, CortexError, ModelLoadFailed, Unavailable, from_code
from cortex.gateway.neurons.connections import NeuronConnections
from cortex.gateway.neurons.fleet import Lost
from cortex.gateway.requests.mailboxes import Mailboxes
from cortex.gateway.scheduling.effects import (
    AbandonOrders,
    AbortNeuron,
    Effect,
    Grant,
    ModelReady,
    OperatorState,
    OrderLoad,
    OrderUnload,
    PollNeuron,
    PushProfiles,
    Reject,
    SaveOperatorState,
    SendProgress,
)
from cortex.gateway.scheduling.loop import Loop
from cortex.wire.status import LoadOrder, UnloadOrder

__all__ = ["EffectRunner"]

logger = logging.getLogger(__name__)


class EffectRunner:
    """`observe` is called with every effect, `ordered` at every order's end, `keep` with the operators' state to
    save."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        observe: Callable[[Effect], None],
        ordered: Callable[[OrderLoad | OrderUnload, float, CortexError | None], None],
        keep: Callable[[OperatorState], None],
    ) -> None:
        self._mailboxes = mailboxes
        self._observe = observe
        self._ordered = ordered
        self._keep = keep
        self._tasks: dict[asyncio.Task[None], str] = {}

    def start(self, loop: Loop, connections: NeuronConnections) -> None:
        """The two it needs were made after it: the loop performs through `perform`."""
        self._loop = loop
        self._connections = connections

    def perform(self, effect: Effect) -> None:
        self._observe(effect)
        match effect:
            case Grant() | Reject() | SendProgress() | ModelReady():
                self._mailboxes.deliver(effect)
            case OrderLoad():
                logger.info("load ordered", extra=_fields(effect))
                self._spawn(effect, self._load(effect))
            case OrderUnload():
                logger.info("unload ordered", extra=_fields(effect))
                self._spawn(effect, self._unload(effect))
            case PushProfiles():
                self._start(effect.neuron, self._push(effect), "push of profiles")
            case SaveOperatorState(operator_state):
                self._keep(operator_state)
            case PollNeuron(neuron=name):
                self._connections.refresh(name)
            case AbortNeuron(neuron=name):
                logger.warning("neuron lost, its requests move or end", extra={"neuron": name})
                self._mailboxes.break_off(name, "the neuron is down")
                self._abandon_orders(name)
            case AbandonOrders(neuron=name):
                self._abandon_orders(name)

    def _abandon_orders(self, name: str) -> None:
        for task in [task for task, neuron in self._tasks.items() if neuron == name]:
            task.cancel()

    async def aclose(self) -> None:
        """Stop waiting for orders. The neurons carry them out all the same."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, effect: OrderLoad | OrderUnload, order: Coroutine[None, None, CortexError | None]) -> None:
        self._start(effect.neuron, self._carry_out(effect, order), f"order {effect.model}")

    def _start(self, neuron: str, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = neuron
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        """The scheduler gives up an order whose task failed (a bug) when it stalls."""
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            logger.error("an order's task failed", exc_info=error, extra={"task": task.get_name()})

    async def _carry_out(
        self, effect: OrderLoad | OrderUnload, order: Coroutine[None, None, CortexError | None]
    ) -> None:
        begun = self._loop.clock()
        error = await order
        self._ordered(effect, self._loop.clock() - begun, error)
        if error is not None:
            overtaken = isinstance(error, Conflict)  # the neuron had changed meanwhile; it is decided again
            logger.log(
                logging.DEBUG if overtaken else logging.WARNING,
                "order failed",
                extra={**_fields(effect), "error": error.message, "code": error.code},
            )
        self._loop.post(lambda scheduler, now: scheduler.on_ordered(effect.neuron, effect.model, error, now))

    async def _push(self, effect: PushProfiles) -> None:
        try:
            await self._connections.put_profiles(effect.neuron, effect.order)
            logger.info("profiles sent", extra={"neuron": effect.neuron})
        except Lost:
            self._loop.post(lambda scheduler, now: scheduler.on_pushed(effect.neuron, now))
        except CortexError as error:
            logger.warning("profiles refused", extra={"neuron": effect.neuron, "why": error.message})

    async def _load(self, effect: OrderLoad) -> CortexError | None:
        order = LoadOrder(
            effect.model,
            list(effect.devices),
            list(effect.evict),
            revision=effect.revision,
            automatic=not effect.by_operator,
        )
        try:
            job = await self._connections.load(effect.neuron, order)
        except Lost as lost:
            return Unavailable(f"{effect.neuron} was lost while loading: {lost}", retry_after=5)
        except CortexError as error:
            return error
        if job.state == "failed":
            return from_code(job.code or ModelLoadFailed.code, job.error)
        return None

    async def _unload(self, effect: OrderUnload) -> CortexError | None:
        order = UnloadOrder(effect.model, effect.force, revision=effect.revision)
        try:
            await self._connections.unload(effect.neuron, order)
        except Lost as lost:
            return Unavailable(f"{effect.neuron} was lost while unloading: {lost}")
        except CortexError as error:
            return error
        return None


def _fields(effect: OrderLoad | OrderUnload) -> dict[str, object]:
    fields: dict[str, object] = {"model": effect.model, "neuron": effect.neuron}
    if isinstance(effect, OrderLoad):
        return fields | {"devices": ",".join(effect.devices), "evict": ",".join(effect.evict)}
    return fields | {"reason": effect.reason}
