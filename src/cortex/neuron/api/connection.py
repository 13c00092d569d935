"""`POST /connection`: everything between one gateway and this neuron, as the frames of `wire.connection`.

Plain ASGI. What one engine step brought to all requests of the gateway is one frame and one write. The connection's
end is the cancel of every request on it; orders are carried out all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import cast

import msgspec

from cortex.errors import InternalError, PayloadTooLarge
from cortex.neuron.api.infer import InferContext, MeteredRequest
from cortex.neuron.api.orders import Orders
from cortex.neuron.api.status_pushes import StatusPushes
from cortex.serving.exchange.response_writer import Receive, ResponseWriter, Scope, Send
from cortex.wire.connection import (
    LoadCommand,
    OrderReply,
    ProfilesCommand,
    StatusPush,
    StatusRequest,
    SubmitPart,
    ToNeuron,
    UnloadCommand,
)
from cortex.wire.events import Event, failed
from cortex.wire.framing import MAX_FRAME_BYTES, FrameDecoder, FrameTooLarge, encode_frame
from cortex.wire.inference import Request
from cortex.wire.worker import Cancel, Emission, RelayedEmission, RelayedEmissions, Submit

__all__ = ["GatewayConnection"]

logger = logging.getLogger(__name__)

_MAX_UNSENT_BYTES = 64 * 2**20
"""What may wait for a gateway that doesn't read: it reads without ever waiting, so one that leaves so much isn't
working."""

_commands: msgspec.msgpack.Decoder[ToNeuron] = msgspec.msgpack.Decoder(ToNeuron)
_submits: msgspec.msgpack.Decoder[Submit] = msgspec.msgpack.Decoder(Submit)


class GatewayConnection:
    """Serves one gateway until it goes, or until the neuron drains and nothing runs here any more."""

    def __init__(self, context: InferContext, orders: Orders, pushes: StatusPushes) -> None:
        self._context = context
        self._orders = orders
        self._pushes = pushes
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._parts: dict[str, bytearray] = {}
        self._unsent: list[Emission | RelayedEmission] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._broken = asyncio.Event()
        self._writer = ResponseWriter(scope, send, on_failure=self._broken.set, max_unsent_bytes=_MAX_UNSENT_BYTES)
        ends = [
            asyncio.create_task(self._read(receive)),
            asyncio.create_task(self._drained()),
            asyncio.create_task(self._broken.wait()),
        ]
        try:
            self._writer.start(200, [(b"content-type", b"application/x-msgpack")])
            with self._pushes.to(self._push_status):
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                self._end()
            if (sending := self._writer.sending) is not None:
                await asyncio.wait({sending, ends[0]}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writer.close()
            tasks = [*ends, *self._runs.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _end(self) -> None:
        if self._writer.failure is None:
            self._pushes.push(self._push_status)  # a draining neuron says so before it ends the connection
            self._writer.write(b"", more=False)
        else:
            logger.warning("gateway doesn't read, connection dropped", extra={"why": str(self._writer.failure)})
            self._writer.abort()

    async def _drained(self) -> None:
        """Returns when the neuron drains and no request is left here."""
        await self._context.lifecycle.wait_for_drain()
        while self._runs:
            await asyncio.wait(self._runs.values())

    # ---- from the gateway

    async def _read(self, receive: Receive) -> None:
        """Every command, until the gateway goes or sends something that is none."""
        frames = FrameDecoder(_commands)
        while (message := await receive())["type"] == "http.request":
            try:
                for command in frames.feed(message.get("body", b"")):
                    self._handle(command)
            except (FrameTooLarge, msgspec.DecodeError) as error:
                logger.warning("a gateway sent what is no command, connection ended", extra={"why": str(error)})
                return

    def _handle(self, command: ToNeuron) -> None:
        match command:
            case Submit(request):
                self._submit(request)
            case SubmitPart():
                self._on_part(command)
            case Cancel(request_id):
                self._parts.pop(request_id, None)
                self._cancel(request_id)
            case StatusRequest():
                self._pushes.push(self._push_status)
            case LoadCommand() | UnloadCommand() | ProfilesCommand():
                self._orders.carry_out(command, self._reply)

    def _on_part(self, part: SubmitPart) -> None:
        """Raises msgspec.DecodeError."""
        data = self._parts.setdefault(part.request_id, bytearray())
        data += part.data
        if len(data) > MAX_FRAME_BYTES:
            del self._parts[part.request_id]
            self._fail(part.request_id, PayloadTooLarge(f"the request is larger than {MAX_FRAME_BYTES} bytes"))
        elif part.last:
            del self._parts[part.request_id]
            self._submit(_submits.decode(bytes(data)).request)

    def _submit(self, request: Request) -> None:
        self._cancel(request.id)
        run = MeteredRequest(self._context, request, self._emit)
        task = self._runs[request.id] = asyncio.create_task(run())
        task.add_done_callback(lambda task: self._forget(request.id, task))

    def _cancel(self, request_id: str) -> None:
        if task := self._runs.get(request_id):
            task.cancel()

    def _forget(self, request_id: str, task: asyncio.Task[None]) -> None:
        if self._runs.get(request_id) is task:
            del self._runs[request_id]

    # ---- to the gateway

    def _emit(self, item: Emission | RelayedEmission, events: Sequence[Event] | None) -> None:  # noqa: ARG002 - a Relay
        """The first item of a turn of the event loop asks for the write at the turn's end, behind those of all
        streams."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(item)

    def _flush(self) -> None:
        if not self._unsent:
            return
        items, self._unsent = self._unsent, []
        try:
            self._writer.write(_frame(items))
        except FrameTooLarge:
            self._send_apart(items)

    def _send_apart(self, items: list[Emission | RelayedEmission]) -> None:
        """Too much for one frame; what is too much alone ends its request."""
        for item in items:
            try:
                self._writer.write(_frame([item]))
            except FrameTooLarge as error:
                logger.warning("events are too large to be sent", extra={"request_id": item.request_id})
                self._cancel(item.request_id)
                self._fail(item.request_id, InternalError(f"the answer is too large to be sent: {error}"))

    def _fail(self, request_id: str, error: PayloadTooLarge | InternalError) -> None:
        self._emit(Emission(request_id, [failed(error)]), None)

    def _push_status(self, push: StatusPush) -> None:
        self._send(push)

    def _reply(self, reply: OrderReply) -> None:
        """Behind the status that shows the order's outcome."""
        self._pushes.push(self._push_status)
        self._send(reply)

    def _send(self, frame: StatusPush | OrderReply) -> None:
        self._flush()
        self._writer.write(encode_frame(frame))


def _frame(items: list[Emission | RelayedEmission]) -> bytes:
    """Both kinds of items are written as the same bytes. Raises FrameTooLarge."""
    return encode_frame(RelayedEmissions(cast("list[RelayedEmission]", items)))
