"""`POST /trunk`: a gateway's requests on one connection. Commands come in with the request's body, which doesn't end,
and events go out with the response's: what one engine step brought to all of them is one frame and one write.

Plain ASGI. The connection's end is the cancel of everything on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from cortex.neuron.api.batch_queue import Outbox
from cortex.neuron.api.infer import Message, Receive, Run, Send, Service, body
from cortex.wire.events import Event
from cortex.wire.framing import FrameDecoder, FrameTooLarge, encode_frame
from cortex.wire.inference import Request
from cortex.wire.worker import Cancel, Emission, Emissions, Submit

__all__ = ["ConnectionExchange"]

logger = logging.getLogger(__name__)

_commands: msgspec.msgpack.Decoder[Submit | Cancel] = msgspec.msgpack.Decoder(Submit | Cancel)


class ConnectionExchange:
    """Serves one gateway until it goes, or until the neuron drains and nothing runs here any more."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._outbox: Outbox[Emission] = Outbox()
        self._runs: dict[str, asyncio.Task[None]] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        ends = [asyncio.create_task(self._obey(receive)), asyncio.create_task(self._drained())]
        for end in ends:
            end.add_done_callback(lambda _: self._outbox.close())
        headers = [(b"content-type", b"application/x-msgpack")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with aclosing(self._outbox.batches()) as batches:
                async for items in batches:
                    await send(body(encode_frame(Emissions(items))))
            await send(body(b"", more=False))
        finally:
            tasks = [*ends, *self._runs.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _obey(self, receive: Receive) -> None:
        """Every command, until the gateway goes or says something that is none."""
        frames = FrameDecoder(_commands)
        while (message := await receive())["type"] == "http.request":
            try:
                commands = frames.feed(message.get("body", b""))
            except (FrameTooLarge, msgspec.DecodeError) as error:
                logger.warning("a gateway speaks another language", extra={"reason": str(error)})
                return
            for command in commands:
                match command:
                    case Submit(request):
                        self._begin(request)
                    case Cancel(request_id):
                        self._cancel(request_id)

    def _begin(self, request: Request) -> None:
        self._cancel(request.id)
        run = Run(self._service, request, partial(self._emit, request.id))
        task = self._runs[request.id] = asyncio.create_task(run())
        task.add_done_callback(lambda task: self._forget(request.id, task))

    def _emit(self, request_id: str, events: Sequence[Event]) -> None:
        self._outbox.put(Emission(request_id, list(events)))

    def _cancel(self, request_id: str) -> None:
        if task := self._runs.get(request_id):
            task.cancel()

    def _forget(self, request_id: str, task: asyncio.Task[None]) -> None:
        if self._runs.get(request_id) is task:
            del self._runs[request_id]

    async def _drained(self) -> None:
        await self._service.lifecycle.wait_for_drain()
        while self._runs:
            await asyncio.wait(self._runs.values())
