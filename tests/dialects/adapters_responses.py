"""OpenAI Responses under test."""

from __future__ import annotations

from typing import Any

import msgspec

from cortex.dialects.openai.objects import openai_error
from cortex.dialects.openai.responses.request import parse_responses
from tests.dialects.harness import Dialect
from tests.dialects.scripts import Script

__all__ = ["OPENAI_RESPONSES"]


def _tool(script: Script, name: str) -> dict[str, Any]:
    match script.tool_kind:
        case "custom":
            return {"type": "custom", "name": name, "description": "Edit files.", "format": {"type": "text"}}
        case "namespaced":
            namespace, _, member = name.partition("__")
            inner = {"type": "function", "name": member, "parameters": {"type": "object", "properties": {}}}
            return {"type": "namespace", "name": namespace, "description": "", "tools": [inner]}
        case _:
            return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}}


def _body(script: Script, stream: bool) -> bytes:
    body: dict[str, Any] = {
        "model": "demo",
        "input": "Hi",
        "stream": stream,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "tools": [_tool(script, name) for name in script.offered],
    }
    return msgspec.json.encode(body)


OPENAI_RESPONSES = Dialect(
    name="openai_responses",
    body=_body,
    parse=parse_responses,
    encode_error=openai_error,
)
