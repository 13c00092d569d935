"""One request on a neuron's connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cortex.gateway.neurons.fleet import Lost
from cortex.wire.events import Event, Failed, Finished

__all__ = ["EmitList", "RequestStream"]

logger = logging.getLogger(__name__)

EmitList = Callable[[list[Event]], None]
"""As `serving.exchange.backend.Emit`; the list is the taker's."""

_ENDS = (Finished, Failed)


class RequestStream:
    """Its events go to `emit` on the stack of the connection's reader, until `ended` is done.

    `ended` fails with Lost when the neuron breaks off, or with what `emit` raised. `close` before the end cancels the
    request at the neuron; it may be called twice.
    """

    def __init__(self, request_id: str, emit: EmitList, on_close: Callable[[RequestStream], None]) -> None:
        self.request_id = request_id
        self._emit = emit
        self._on_close = on_close
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def feed(self, events: list[Event]) -> None:
        if self.ended.done():
            return
        last = events[-1]
        try:
            self._emit(events)
        except Exception as error:  # noqa: BLE001 - the owner's to handle: other streams share this stack
            self._fail(error)
            self._on_close(self)
            return
        if type(last) in _ENDS and not self.ended.done():
            self.ended.set_result(None)

    def lose(self, error: Lost) -> None:
        """Nothing more will come."""
        self._fail(error)

    def close(self) -> None:
        self._fail(Lost("the stream was closed"))
        self._on_close(self)

    def _fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # seen, even when its owner has left
