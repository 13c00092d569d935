"""What the non-streamed bodies say, in the same terms as the stream readers."""

from __future__ import annotations

import json
from typing import Any

from tests.dialects.readers.frames import Said

__all__ = ["read_anthropic_body", "read_chat_body", "read_completion_body", "read_responses_body"]


def read_anthropic_body(body: bytes) -> Said:
    message = json.loads(body)
    said = Said(end=message["stop_reason"], ended=True)
    for block in message["content"]:
        said.text += block.get("text", "")
        said.reasoning += block.get("thinking", "")
        if block["type"] == "tool_use":
            said.calls.append((block["name"], json.dumps(block["input"])))
    return said


def read_chat_body(body: bytes) -> Said:
    choice = json.loads(body)["choices"][0]
    message = choice["message"]
    said = Said(
        message["content"] or "", message.get("reasoning_content") or "", end=choice["finish_reason"], ended=True
    )
    for call in message.get("tool_calls", []):
        said.add_call(call["function"]["name"], call["function"]["arguments"])
    return said


def read_completion_body(body: bytes) -> Said:
    choice = json.loads(body)["choices"][0]
    return Said(choice["text"], end=choice["finish_reason"], ended=True)


def read_responses_body(body: bytes) -> Said:
    response: dict[str, Any] = json.loads(body)
    reason = response["incomplete_details"]
    said = Said(end=reason["reason"] if reason else response["status"], ended=True)
    for item in response["output"]:
        match item["type"]:
            case "message":
                said.text += "".join(part["text"] for part in item["content"])
            case "reasoning":
                said.reasoning += "".join(part["text"] for part in item["summary"])
            case "function_call":
                said.add_call(item["name"], item["arguments"])
    return said
