"""A server that answers without a model: a neuron to the cortex gateway, an OpenAI server to other routers.

It steps each `--interval-ms`, as an engine does, and a step gives every stream one small event; the number of events is
the request's max_tokens. The first event is sent at once, and so is all of an answer that doesn't stream.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from typing import Any

import msgspec
import uvloop

from cortex.serving.http.server import Server, server_config
from cortex.wire.connection import StatusPush, ToNeuron
from cortex.wire.events import ChoiceFinished, Event, Finished, Started, TextDelta, Usage
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.inference import InferenceRequest
from cortex.wire.status import DeviceStatus, Limits, ModelCard, ModelStatus, NeuronStatus
from cortex.wire.worker import Cancel, Emission, Emissions, Submit

MODEL = "fake"
WORD = "word"
DIFFERENT = 50
"""Chunks that differ: a router that watches for repetition (litellm: 100 equal ones) would end the stream."""
HEARTBEAT_S = 5.0


class Upstream:
    """An ASGI application."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        match scope["path"]:
            case "/connection":
                await self.connection(receive, send)
            case "/v1/chat/completions":
                await self.chat(receive, send)
            case "/v1/models":
                await _whole(send, {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "x"}]})
            case _:
                await _whole(send, {})

    async def connection(self, receive: Any, send: Any) -> None:
        left: dict[str, tuple[int, int]] = {}
        await _begin(send, "application/x-msgpack")
        tasks = [asyncio.create_task(self._step(send, left)), asyncio.create_task(_push_status(send))]
        commands = FrameDecoder(msgspec.msgpack.Decoder(ToNeuron))
        try:
            while (message := await receive())["type"] == "http.request":
                for command in commands.feed(message["body"]):
                    match command:
                        case Submit(request):
                            await self._start(send, request, left)
                        case Cancel(request_id):
                            left.pop(request_id, None)
        finally:
            for task in tasks:
                task.cancel()

    async def _start(self, send: Any, request: object, left: dict[str, tuple[int, int]]) -> None:
        assert isinstance(request, InferenceRequest)
        count = request.max_output or 16
        events: list[Event] = [Started(8), TextDelta(WORD)]
        if request.streamed and count > 1:
            left[request.id] = (count - 1, count)
        else:
            events += [*(TextDelta(WORD) for _ in range(count - 1)), *_end(count)]
        await _more(send, encode_frame(Emissions([Emission.of(request.id, events)])))

    async def _step(self, send: Any, left: dict[str, tuple[int, int]]) -> None:
        async for _ in self._steps():
            items = []
            for request_id, (more, count) in list(left.items()):
                last = more == 1
                word = TextDelta(f"{WORD}{more % DIFFERENT} ")
                items.append(Emission.of(request_id, [word, *_end(count)] if last else [word]))
                left[request_id] = (more - 1, count)
                if last:
                    del left[request_id]
            if items:
                await _more(send, encode_frame(Emissions(items)))

    async def chat(self, receive: Any, send: Any) -> None:
        data, more = b"", True
        while more:
            message = await receive()
            data, more = data + message["body"], message["more_body"]
        body = json.loads(data)
        count = body.get("max_tokens", 16)
        if not body.get("stream"):
            message = {"role": "assistant", "content": WORD * count}
            await _whole(send, _document("chat.completion", {"message": message, "finish_reason": "stop"}))
            return
        await _begin(send, "text/event-stream")
        chunks = _chunks()
        async with aclosing(self._steps()) as steps:
            for number in range(count):
                if number:
                    await anext(steps)
                await _more(send, chunks[number % DIFFERENT])
        await _more(send, _sse(_document("chat.completion.chunk", {"delta": {}, "finish_reason": "stop"})))
        await _more(send, b"data: [DONE]\n\n", more=False)

    async def _steps(self) -> AsyncGenerator[None, None]:
        """The engine's clock: ticks at whole multiples of the interval, so that all streams step together."""
        tick = int(time.monotonic() / self._interval_s)
        while True:
            tick += 1
            await asyncio.sleep(tick * self._interval_s - time.monotonic())
            yield


async def _push_status(send: Any) -> None:
    device = DeviceStatus("cpu0", "cpu", "cpu0", "cpu0", 2**30, 2**30, 2**30)
    card = ModelCard(MODEL, Limits(context=8192), parallel=64)
    model = ModelStatus(card, "ready", servable=True, devices=["cpu0"])
    frame = encode_frame(StatusPush(NeuronStatus("fake", "0", "boot", 1, "ready", [device], [], [model])))
    while True:
        await _more(send, frame)
        await asyncio.sleep(HEARTBEAT_S)


async def _begin(send: Any, content_type: str) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type.encode())]})


async def _more(send: Any, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _whole(send: Any, document: object) -> None:
    await _begin(send, "application/json")
    await _more(send, json.dumps(document).encode(), more=False)


def _end(count: int) -> list[Event]:
    return [ChoiceFinished("stop"), Finished(Usage(8, 0, count))]


@cache
def _chunks() -> list[bytes]:
    deltas = [{"delta": {"content": f"{WORD}{number} "}, "finish_reason": None} for number in range(DIFFERENT)]
    return [_sse(_document("chat.completion.chunk", delta)) for delta in deltas]


def _document(kind: str, choice: dict[str, object]) -> dict[str, object]:
    usage = {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}
    return {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 1700000000,
        "model": MODEL,
        "choices": [{"index": 0, **choice}],
        **({"usage": usage} if kind == "chat.completion" else {}),
    }


def _sse(document: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--interval-ms", type=float, default=4.0)
    options = parser.parse_args()
    server = Server(server_config(Upstream(options.interval_ms / 1000)))
    uvloop.run(server.serve([socket.create_server(("127.0.0.1", options.port), backlog=512)]))


if __name__ == "__main__":
    main()
