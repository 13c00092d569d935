"""Server-sent events as bytes: the frames every streaming dialect is made of.

One space follows `data:` and `event:`; some older client parsers strip exactly `data: `. Payloads are JSON on one line,
so they never hold a bare newline.
"""

from __future__ import annotations

__all__ = ["COMMENT_PING", "DONE", "data_frame", "event_frame"]

COMMENT_PING = b": ping\n\n"
"""A comment: ignored by every SSE parser, yet it resets byte-level timers between us and the client."""

DONE = b"data: [DONE]\n\n"
"""The end of an OpenAI chat or completions stream. Anthropic and Responses streams never carry it."""


def data_frame(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


def event_frame(name: str, payload: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + payload + b"\n\n"
