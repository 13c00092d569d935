"""Keeps one connection to every neuron: opened at once, without traffic as well, and opened again after every loss.

What neurons send of themselves goes to the loop; nothing is kept here but the connections.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from cortex.config.settings import GatewayConfig
from cortex.errors import CortexError
from cortex.gateway.neurons.connection import connect
from cortex.gateway.neurons.fleet import Lost, Neuron
from cortex.gateway.neurons.request_stream import EmitList, RequestStream
from cortex.gateway.scheduling.loop import Loop
from cortex.wire.inference import Request
from cortex.wire.status import LoadJob, LoadOrder, NeuronStatus, ProfilesOrder, UnloadOrder

__all__ = ["Connect", "Connection", "NeuronConnections", "retry_s"]

logger = logging.getLogger(__name__)

_LONGEST_RETRY_S = 5.0
_RECHECK_S = 1.0
"""Silence counts when it still holds after this: a process that was stopped itself reads first what came meanwhile."""


class Connection(Protocol):
    """An open connection to a neuron; tests have one in memory. `connection.NeuronConnection` says what each method
    does."""

    closed: asyncio.Future[None]

    def submit(self, request: Request, emit: EmitList) -> RequestStream: ...
    async def load(self, order: LoadOrder) -> LoadJob: ...
    async def unload(self, order: UnloadOrder) -> None: ...
    async def put_profiles(self, order: ProfilesOrder) -> None: ...
    def request_status(self) -> None: ...
    def silent_s(self) -> float: ...
    def retire(self) -> None: ...
    def break_off(self, error: Lost) -> None: ...


class Connect(Protocol):
    """Opens a connection. Raises Lost, and the CortexError that the neuron refused with."""

    async def __call__(
        self,
        endpoint: str,
        token: str | None,
        connect_s: float,
        on_status: Callable[[Connection, NeuronStatus], None],
        on_lost: Callable[[Connection, Lost], None],
    ) -> Connection: ...


def retry_s(failures: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds until the next try after so many in a row that brought no status. `chance` gives a number from 0 to 1:
    the wait is between half of the longest and the longest, so that gateways which lost a neuron together, or one that
    lost all its neurons, don't try in step."""
    return min(_LONGEST_RETRY_S, 0.25 * 2.0 ** min(failures, 10)) * (0.5 + chance() / 2)


class NeuronConnections:
    """The connections by neuron's name. Orders and requests raise Lost where there is none, or when it breaks."""

    def __init__(self, loop: Loop, config: Callable[[], GatewayConfig], connect: Connect = connect) -> None:
        self._loop = loop
        self._config = config
        self._connect = connect
        self._links: dict[str, _Link] = {}
        self._retired: set[Connection] = set()

    def follow_fleet(self) -> None:
        """Connect to new neurons; let go of those that were removed or are somewhere else now."""
        fleet = self._loop.scheduler.state.fleet
        for name, link in list(self._links.items()):
            if not link.leads_to(fleet.get(name)):
                link.cancel()
                del self._links[name]
        for neuron in fleet:
            if neuron.name not in self._links:
                self._links[neuron.name] = _Link(neuron, self._loop, self._config, self._connect, self._retire)

    async def first_round(self) -> None:
        """Returns when every neuron has sent its status or failed to, so that the first client finds the models."""
        await asyncio.gather(*(link.tried.wait() for link in self._links.values()))

    def submit(self, name: str, request: Request, emit: EmitList) -> RequestStream:
        return self._to(name).submit(request, emit)

    async def load(self, name: str, order: LoadOrder) -> LoadJob:
        return await self._to(name).load(order)

    async def unload(self, name: str, order: UnloadOrder) -> None:
        await self._to(name).unload(order)

    async def put_profiles(self, name: str, order: ProfilesOrder) -> None:
        await self._to(name).put_profiles(order)

    def refresh(self, name: str) -> None:
        """Ask for a status: what is known is doubtful. Without a connection, try to open one now."""
        if link := self._links.get(name):
            link.refresh()

    async def aclose(self) -> None:
        links, self._links = list(self._links.values()), {}
        for link in links:
            link.cancel()
        for connection in list(self._retired):
            connection.break_off(Lost("the gateway is shutting down"))
        await asyncio.gather(*(link.task for link in links), return_exceptions=True)

    def _to(self, name: str) -> Connection:
        link = self._links.get(name)
        if link is None or link.connection is None:
            raise Lost("there is no connection to it")
        return link.connection

    def _retire(self, connection: Connection) -> None:
        """What runs on it runs on."""
        if not connection.closed.done():
            self._retired.add(connection)
            connection.closed.add_done_callback(lambda _: self._retired.discard(connection))
            connection.retire()


class _Link:
    """One neuron at one address. `connection` is the open one; `tried` is set when the first try has had an outcome."""

    def __init__(
        self,
        neuron: Neuron,
        loop: Loop,
        config: Callable[[], GatewayConfig],
        connect: Connect,
        retire: Callable[[Connection], None],
    ) -> None:
        self._neuron = neuron
        self._loop = loop
        self._config = config
        self._connect = connect
        self._retire = retire
        self._wake = asyncio.Event()
        self._left = False
        self._promising = False
        self.connection: Connection | None = None
        self.tried = asyncio.Event()
        self.task = asyncio.create_task(self._keep(), name=f"connection to {neuron.name}")

    def leads_to(self, neuron: Neuron | None) -> bool:
        return neuron is not None and (neuron.endpoint, neuron.token) == (self._neuron.endpoint, self._neuron.token)

    def refresh(self) -> None:
        if self.connection is not None:
            self.connection.request_status()
        else:
            self._wake.set()

    def cancel(self) -> None:
        self._left = True
        self.task.cancel()
        if self.connection is not None:
            self._retire(self.connection)

    async def _keep(self) -> None:
        failures = 0
        while True:
            self._promising = False
            try:
                await self._live()
            except Exception:  # a bug; without this task the neuron would stay down for ever
                logger.exception("a connection's task failed", extra={"neuron": self._neuron.name})
                self._report_loss("the gateway's log has the details")
            failures = 0 if self._promising else failures + 1
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(retry_s(failures)):
                    await self._wake.wait()

    async def _live(self) -> None:
        """One connection, to its end."""
        try:
            connection = await self._connect(
                self._neuron.endpoint,
                self._neuron.token,
                self._config().connect_s,
                self._on_status,
                self._on_lost,
            )
        except (Lost, CortexError) as error:
            self._report_loss(str(error))
            return
        while not connection.closed.done():
            silence_s = self._config().silence_s
            await asyncio.wait({connection.closed}, timeout=silence_s / 4)
            if connection.silent_s() > silence_s:
                await asyncio.wait({connection.closed}, timeout=_RECHECK_S)
                if not connection.closed.done() and (silent_s := connection.silent_s()) > silence_s:
                    connection.break_off(Lost(f"it sent nothing for {silent_s:.0f} s"))

    def _on_status(self, connection: Connection, status: NeuronStatus) -> None:
        """The first one makes the connection usable: whoever is granted the neuron by it sends a request at once."""
        if self._left:
            return  # another neuron has this name by now
        if self.connection is not connection:
            logger.info("neuron is connected", extra={"neuron": self._neuron.name, "endpoint": self._neuron.endpoint})
        self.connection = connection
        self._promising = status.state != "draining"  # a draining one has sent its last
        self._loop.post(lambda scheduler, now: scheduler.on_status(self._neuron.name, status, now))
        self.tried.set()

    def _on_lost(self, connection: Connection, error: Lost) -> None:  # noqa: ARG002 - the only one there is
        self.connection = None
        self._report_loss(str(error))

    def _report_loss(self, why: str) -> None:
        if self._left:
            return
        name = self._neuron.name
        known = self._loop.scheduler.state.fleet.get(name)
        if known is not None and known.reason != why:
            logger.warning("neuron is not connected", extra={"neuron": name, "why": why})
        self._loop.post(lambda scheduler, now: scheduler.on_unreachable(name, why, now))
        self.tried.set()
