"""A server that answers without a model: a neuron to the cortex gateway, an OpenAI server to other routers.

Every stream sends one small event each `--interval-ms`; the number of events is the request's max_tokens. A request
that doesn't stream is answered at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from functools import cache

import msgspec
import uvloop
from aiohttp import web

from cortex.wire.events import ChoiceFinished, Finished, Started, TextDelta, Usage
from cortex.wire.framing import encode_frame
from cortex.wire.inference import InferenceRequest, Request
from cortex.wire.status import DeviceStatus, Limits, ModelCard, ModelStatus, NeuronStatus

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
                web.post("/infer", self.infer),
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

    async def infer(self, request: web.Request) -> web.StreamResponse:
        asked = msgspec.msgpack.decode(await request.read(), type=Request)
        assert isinstance(asked, InferenceRequest)
        count = asked.max_output or 16
        response = web.StreamResponse(headers={"content-type": "application/x-msgpack"})
        await response.prepare(request)
        await response.write(encode_frame([Started(8)]))
        frames = _frames()
        # A neuron doesn't know whether its client streams: short answers stand for those that don't.
        await self._paced(response, count, lambda number: frames[number % DIFFERENT], paced=count > 1)
        await response.write(encode_frame([ChoiceFinished("stop"), Finished(Usage(8, 0, count))]))
        return response

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        count = body.get("max_tokens", 16)
        if not body.get("stream"):
            message = {"role": "assistant", "content": WORD * count}
            return web.json_response(_document("chat.completion", {"message": message, "finish_reason": "stop"}))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        chunks = _chunks()
        await self._paced(response, count, lambda number: chunks[number % DIFFERENT], paced=True)
        await response.write(_sse(_document("chat.completion.chunk", {"delta": {}, "finish_reason": "stop"})))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "x"}]})

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _paced(
        self, response: web.StreamResponse, count: int, chunk_of: Callable[[int], bytes], *, paced: bool
    ) -> None:
        begun = time.monotonic()
        for number in range(count):
            if paced:
                await asyncio.sleep(max(0.0, begun + number * self._interval_s - time.monotonic()))
            await response.write(chunk_of(number))


@cache
def _frames() -> list[bytes]:
    return [encode_frame([TextDelta(f"{WORD}{number} ")]) for number in range(DIFFERENT)]


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
