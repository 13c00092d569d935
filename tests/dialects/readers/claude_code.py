"""Claude Code's demands on a messages stream, and those of the SDK in it: order, identity, counts.

Breaking one of them has ended sessions with "Content block not found", "Content block is not a thinking block" or
"undefined is not an object (evaluating '$.input_tokens')".
"""

from __future__ import annotations

import json
from typing import Any

from tests.dialects.readers.frames import Complaint, Said, frames

__all__ = ["read_anthropic"]

DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
}
COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


class _Reader:
    def __init__(self) -> None:
        self.said = Said()
        self.started = False
        self.delta_seen = False
        self.next_index = 0
        self.open: dict[str, Any] | None = None
        self.received = ""
        self.signed = False

    def read(self, name: str | None, event: dict[str, Any]) -> None:
        if name != event["type"]:
            raise Complaint("the SDK skips events whose event line is missing or wrong")
        if self.said.ended:
            raise Complaint(f"{name} after the end")
        if not self.started and name not in ("ping", "message_start", "error"):
            raise Complaint(f"{name} before message_start")
        getattr(self, f"on_{name}")(event)

    def on_ping(self, event: dict[str, Any]) -> None:
        pass

    def on_message_start(self, event: dict[str, Any]) -> None:
        if self.started:
            raise Complaint("a second message_start")
        self.started = True
        message = event["message"]
        if message["role"] != "assistant" or message["content"] != [] or message["stop_reason"] is not None:
            raise Complaint("message_start must be an empty assistant message")
        self.counts(message["usage"])

    def on_content_block_start(self, event: dict[str, Any]) -> None:
        if self.open is not None:
            raise Complaint("a block starts while another is open")
        if event["index"] != self.next_index:
            raise Complaint("block indexes count from 0 without a gap")
        self.next_index += 1
        self.open = event["content_block"]
        self.received = ""
        self.signed = False
        if self.open["type"] == "tool_use" and self.open["input"] != {}:
            raise Complaint("a tool's input starts as {}")

    def on_content_block_delta(self, event: dict[str, Any]) -> None:
        if self.open is None or event["index"] != self.next_index - 1:
            raise Complaint("Content block not found")
        delta = event["delta"]
        if DELTAS[delta["type"]] != self.open["type"]:
            raise Complaint(f"Content block is not a {DELTAS[delta['type']]} block")
        piece = delta.get("text") or delta.get("thinking") or delta.get("partial_json") or delta.get("signature")
        if not piece:
            raise Complaint("an empty delta")
        if delta["type"] == "signature_delta":
            self.signed = True
        else:
            self.received += piece

    def on_content_block_stop(self, event: dict[str, Any]) -> None:
        if self.open is None or event["index"] != self.next_index - 1:
            raise Complaint("Content block not found")
        if not self.received and not (self.open["type"] == "thinking" and self.signed):
            raise Complaint("an empty block: other servers refuse it when it comes back")
        match self.open["type"]:
            case "text":
                self.said.text += self.received
            case "thinking":
                self.said.reasoning += self.received
            case "tool_use":
                self.said.add_call(self.open["name"], self.received)
        self.open = None

    def on_message_delta(self, event: dict[str, Any]) -> None:
        if self.open is not None:
            raise Complaint("message_delta while a block is open")
        self.delta_seen = True
        self.said.end = event["delta"]["stop_reason"]
        if self.said.unreadable and self.said.end != "max_tokens":
            raise Complaint("a tool's input must be an object")
        self.counts(event["usage"])

    def on_message_stop(self, event: dict[str, Any]) -> None:
        if not self.delta_seen:
            raise Complaint("message_stop without message_delta")
        self.said.ended = True

    def on_error(self, event: dict[str, Any]) -> None:
        self.said.error = event["error"]["message"]
        self.said.ended = True

    def counts(self, usage: dict[str, Any]) -> None:
        for key in COUNTS:
            if type(usage.get(key)) is not int:
                raise Complaint(f"usage.{key} must be a number")


def read_anthropic(body: bytes) -> Said:
    reader = _Reader()
    for frame in frames(body):
        if frame.data == "[DONE]":
            raise Complaint("[DONE] is no Anthropic event")
        reader.read(frame.event, json.loads(frame.data))
    if not reader.said.ended:
        raise Complaint("the stream stops without message_stop or error")
    return reader.said
