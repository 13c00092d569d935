"""OpenAI chat completions and legacy completions under test."""

from __future__ import annotations

from typing import Any

import msgspec

from cortex.dialects.openai.chat.request import parse_chat
from cortex.dialects.openai.completions.request import parse_completions
from cortex.dialects.openai.objects import openai_error
from tests.dialects.harness import Dialect
from tests.dialects.scripts import Script

__all__ = ["OPENAI_CHAT", "OPENAI_COMPLETIONS"]


def _chat_body(script: Script, stream: bool) -> bytes:
    body: dict[str, Any] = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Hi"}],
        "stop": list(script.stop),
        "stream": stream,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    if script.offered:
        body["tools"] = [_tool(name, script.tool_kind == "custom") for name in script.offered]
    return msgspec.json.encode(body)


def _tool(name: str, custom: bool) -> dict[str, Any]:
    if custom:
        return {"type": "custom", "custom": {"name": name}}
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def _completion_body(script: Script, stream: bool) -> bytes:
    body: dict[str, Any] = {"model": "demo", "prompt": "Hi", "stop": list(script.stop), "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(body)


OPENAI_CHAT = Dialect(name="openai_chat", body=_chat_body, parse=parse_chat, encode_error=openai_error)
OPENAI_COMPLETIONS = Dialect(
    name="openai_completions",
    body=_completion_body,
    parse=parse_completions,
    encode_error=openai_error,
    tells=lambda script: not script.offered and not script.reasoning,
)
