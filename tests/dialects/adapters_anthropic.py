"""Anthropic messages under test."""

from __future__ import annotations

from typing import Any

import msgspec

from cortex.dialects.anthropic.messages import parse_messages
from cortex.dialects.anthropic.reply import anthropic_error
from tests.dialects.harness import Dialect
from tests.dialects.scripts import Script

__all__ = ["ANTHROPIC_MESSAGES"]


def _body(script: Script, stream: bool) -> bytes:
    body: dict[str, Any] = {
        "model": "demo",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hi"}],
        "stop_sequences": list(script.stop),
        "stream": stream,
    }
    if script.offered:
        body["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in script.offered]
    return msgspec.json.encode(body)


ANTHROPIC_MESSAGES = Dialect(
    name="anthropic_messages",
    body=_body,
    parse=parse_messages,
    encode_error=anthropic_error,
)
