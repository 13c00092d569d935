"""The official SDKs with our bytes for an answer: no server, no sockets."""

from __future__ import annotations

import anthropic
import httpx2
import openai

__all__ = ["anthropic_client", "openai_client"]


def _transport(body: bytes, status: int = 200) -> httpx2.MockTransport:
    kind = "text/event-stream" if body.startswith((b"event:", b"data:", b":")) else "application/json"
    return httpx2.MockTransport(lambda _: httpx2.Response(status, content=body, headers={"content-type": kind}))


def anthropic_client(body: bytes, status: int = 200) -> anthropic.Anthropic:
    transport = _transport(body, status)
    return anthropic.Anthropic(api_key="k", max_retries=0, http_client=httpx2.Client(transport=transport))


def openai_client(body: bytes, status: int = 200) -> openai.OpenAI:
    transport = _transport(body, status)
    return openai.OpenAI(api_key="k", max_retries=0, http_client=httpx2.Client(transport=transport))
