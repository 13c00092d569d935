"""A server in memory: requests go through the real parsers, scripts come back through the real renderers."""

from __future__ import annotations

from collections.abc import Callable

import httpx2

from cortex.dialects.anthropic.messages import parse_messages
from cortex.dialects.base import Call, CallContext
from cortex.dialects.openai.chat.request import parse_chat
from cortex.dialects.openai.responses.request import parse_responses
from cortex.wire.inference import InferenceRequest
from tests.dialects.harness import CONTEXT, stream_pieces
from tests.dialects.scripts import SILENCE, Script

__all__ = ["ScriptedServer"]

ROUTES: dict[str, Callable[[bytes, CallContext], Call]] = {
    "/v1/chat/completions": parse_chat,
    "/v1/responses": parse_responses,
    "/v1/messages": parse_messages,
}


class ScriptedServer:
    """Answers request after request with the next of `scripts`; `asked` is what the engine would get."""

    base_url = "http://cortex.test"

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.asked: list[InferenceRequest] = []

    def client(self) -> httpx2.Client:
        return httpx2.Client(transport=httpx2.MockTransport(self.answer))

    def async_client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer))

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        call = ROUTES[request.url.path](request.content, CONTEXT)
        [asked] = call.requests
        assert isinstance(asked, InferenceRequest)
        self.asked.append(asked)
        script = self._scripts.pop(0)
        if call.stream:
            return _reply("text/event-stream", b"".join(stream_pieces(call, script)))
        collector = call.collector()
        for step in script.steps:
            if step != SILENCE:
                collector.feed(0, step)
        return _reply("application/json", collector.finish())


def _reply(kind: str, body: bytes) -> httpx2.Response:
    return httpx2.Response(200, content=body, headers={"content-type": kind})
