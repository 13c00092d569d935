"""A server that answers without a model: a neuron to the cortex gateway, an OpenAI server to other routers.

It steps each `--interval-ms`, as an engine does, and a step gives every stream one small event; the number of events is
the request's max_tokens. The first event is sent at once, and so is all of an answer that doesn't stream.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache

import msgspec
import uvloop
from aiohttp import web

from cortex.wire.events import ChoiceFinished, Event, Finished, Started, TextDelta, Usage
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.inference import InferenceRequest
from cortex.wire.status import DeviceStatus, Limits, ModelCard, ModelStatus, NeuronStatus
from cortex.wire.worker import Cancel, Emission, Emissions, Submit

MODEL = "fake"
WORD = "word"
DIFFERENT = 50
"""Chunks that differ: a router that watches for repetition (litellm: 100 equal ones) would end the stream."""


class Upstream:
    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/status", self.status),
                web.post("/trunk", self.trunk),
                web.post("/v1/chat/completions", self.chat),
                web.get("/v1/models", self.models),
                web.get("/health", self.health),
            ]
        )
        return app

    async def status(self, _: web.Request) -> web.Response:
        device = DeviceStatus("cpu0", "cpu", "cpu0", "cpu0", 2**30, 2**30, 2**30)
        card = ModelCard(MODEL, Limits(context=8192), parallel=64)
        model = ModelStatus(card, "ready", servable=True, devices=["cpu0"])
        status = NeuronStatus("fake", "0", "boot", 1, "ready", [device], [], [model])
        return web.Response(body=msgspec.json.encode(status))

    async def trunk(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/x-msgpack"})
        await response.prepare(request)
        engine = asyncio.create_task(self._step(response, left := {}))
        commands = FrameDecoder(msgspec.msgpack.Decoder(Submit | Cancel))
        try:
            async for data in request.content.iter_any():
                for command in commands.feed(data):
                    if isinstance(command, Submit):
                        await self._start(response, command.request, left)
                    else:
                        left.pop(command.request_id, None)
        finally:
            engine.cancel()
        return response

    async def _start(self, response: web.StreamResponse, request: object, left: dict[str, tuple[int, int]]) -> None:
        assert isinstance(request, InferenceRequest)
        count = request.max_output or 16
        events: list[Event] = [Started(8), TextDelta(WORD)]
        if request.streamed and count > 1:
            left[request.id] = (count - 1, count)
        else:
            events += [*(TextDelta(WORD) for _ in range(count - 1)), *_end(count)]
        await response.write(encode_frame(Emissions([Emission(request.id, events)])))

    async def _step(self, response: web.StreamResponse, left: dict[str, tuple[int, int]]) -> None:
        async for _ in self._steps():
            items = []
            for request_id, (more, count) in list(left.items()):
                last = more == 1
                word = TextDelta(f"{WORD}{more % DIFFERENT} ")
                items.append(Emission(request_id, [word, *_end(count)] if last else [word]))
                left[request_id] = (more - 1, count)
                if last:
                    del left[request_id]
            if items:
                await response.write(encode_frame(Emissions(items)))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        count = body.get("max_tokens", 16)
        if not body.get("stream"):
            message = {"role": "assistant", "content": WORD * count}
            return web.json_response(_document("chat.completion", {"message": message, "finish_reason": "stop"}))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        chunks = _chunks()
        async with aclosing(self._steps()) as steps:
            for number in range(count):
                if number:
                    await anext(steps)
                await response.write(chunks[number % DIFFERENT])
        await response.write(_sse(_document("chat.completion.chunk", {"delta": {}, "finish_reason": "stop"})))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "x"}]})

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _steps(self) -> AsyncGenerator[None, None]:
        """The engine's clock: ticks at whole multiples of the interval, so that all streams step together."""
        tick = int(time.monotonic() / self._interval_s)
        while True:
            tick += 1
            await asyncio.sleep(tick * self._interval_s - time.monotonic())
            yield


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
    uvloop.install()
    app = Upstream(options.interval_ms / 1000).app()
    web.run_app(app, host="127.0.0.1", port=options.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
