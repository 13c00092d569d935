"""Orders that gateways send over their connections: load, unload, take profiles. Each gets exactly one reply."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Raw

from cortex.errors import CortexError
from cortex.neuron.models.registry import ModelRegistry
from cortex.wire.connection import LoadCommand, OrderReply, ProfilesCommand, UnloadCommand
from cortex.wire.events import Failed, failed
from cortex.wire.status import LoadJob, LoadOrder, ModelStatus, ProfilesMark, ProfilesOrder, UnloadOrder

__all__ = ["OrderHandler", "Orders"]

logger = logging.getLogger(__name__)

Command = LoadCommand | UnloadCommand | ProfilesCommand


class OrderHandler(Protocol):
    """What carries them out, for HTTP routes and connections alike. Every method raises CortexError."""

    async def load(self, order: LoadOrder) -> LoadJob: ...
    async def unload(self, order: UnloadOrder) -> ModelStatus: ...
    async def take_profiles(self, order: ProfilesOrder) -> ProfilesMark: ...


class Orders:
    """Made once per neuron. An order outlives the connection that brought it: what it began is carried to its end."""

    def __init__(self, handler: OrderHandler, registry: ModelRegistry) -> None:
        self._handler = handler
        self._registry = registry

    def carry_out(self, command: Command, reply: Callable[[OrderReply], None]) -> None:
        """Begins now; `reply` is called when it has ended, not before this returns."""
        self._registry.spawn(self._carry_out(command, reply), f"order-{command.id}")

    async def _carry_out(self, command: Command, reply: Callable[[OrderReply], None]) -> None:
        try:
            match command:
                case LoadCommand(id_, order):
                    answer = OrderReply(id_, await self._handler.load(order))
                case UnloadCommand(id_, unload):
                    answer = await self._acknowledged(id_, self._handler.unload(unload))
                case ProfilesCommand(id_, source, replaces, document):
                    profiles = ProfilesOrder(source, replaces, Raw(document))
                    answer = await self._acknowledged(id_, self._handler.take_profiles(profiles))
        except CortexError as error:
            answer = OrderReply(command.id, error=failed(error))
        except Exception:
            logger.exception("an order failed unexpectedly", extra={"order": command})
            answer = OrderReply(command.id, error=Failed("internal_error", "the neuron's log has the details"))
        reply(answer)

    async def _acknowledged(self, id_: int, work: Awaitable[object]) -> OrderReply:
        await work
        return OrderReply(id_)
