"""Chat completion bodies, parsed for tests."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from cortex.dialects.base import CallContext
from cortex.dialects.images import Images
from cortex.dialects.openai.chat.request import parse_chat
from cortex.errors import BadRequest, CortexError
from cortex.wire.inference import InferenceRequest, Message, Request

__all__ = ["CLOCK", "PNG", "USER", "WEATHER", "context", "messages", "parse", "refusal"]

USER: dict[str, Any] = {"role": "user", "content": "hi"}
PNG = base64.b64encode(b"\x89PNG data").decode()
WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock"}}


def context(images: Images | None = None) -> CallContext:
    return CallContext("req_1", 1700000000, lambda name: name or "fallback", "alice", images=images or Images())


def parse(body: dict[str, Any] | None = None, **fields: Any) -> InferenceRequest:
    whole = {"model": "demo", "messages": [USER]} | (body or {}) | fields
    (request,) = parse_chat(msgspec.json.encode(whole), context()).requests
    assert isinstance(request, InferenceRequest)
    # What a dialect makes must cross the wire.
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=Request) == request
    return request


def messages(*given_: dict[str, Any]) -> list[Message]:
    return parse(messages=list(given_)).messages


def refusal(**fields: Any) -> CortexError:
    with pytest.raises(BadRequest) as caught:
        parse(**fields)
    return caught.value
