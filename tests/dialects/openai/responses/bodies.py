"""Responses bodies, parsed for tests."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from cortex.dialects.openai.responses.request import parse_responses
from cortex.errors import BadRequest, CortexError
from cortex.wire.inference import InferenceRequest, Part
from tests.dialects.harness import CONTEXT

__all__ = ["FILES", "HI", "PATCH", "PNG", "READ", "call", "messages", "output", "refused", "request"]

READ = {"type": "function", "name": "read", "description": "Reads.", "parameters": {"type": "object"}}
FILES = {"type": "namespace", "name": "files", "description": "MCP", "tools": [READ, {**READ, "name": "write"}]}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}


HI = {"role": "user", "content": "Hi"}
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()


def request(**body: Any) -> InferenceRequest:
    [parsed] = parse_responses(msgspec.json.encode({"model": "demo", "input": "Hi", **body}), CONTEXT).requests
    assert isinstance(parsed, InferenceRequest)
    return parsed


def messages(*items: dict[str, Any], **body: Any) -> list[tuple[str, Sequence[Part]]]:
    return [(message.role, message.parts) for message in request(input=list(items), **body).messages]


def refused(**body: Any) -> CortexError:
    with pytest.raises(BadRequest) as raised:
        request(**body)
    return raised.value


def call(call_id: str, **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "read", "arguments": "{}", **more}


def output(call_id: str, text: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}
