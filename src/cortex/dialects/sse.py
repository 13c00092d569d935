"""Server-sent events as bytes.

One space follows `data:` and `event:`, because some older clients (Zed, LM Studio's) strip exactly `data: `. A payload
is JSON on one line, so it never contains a newline.
"""

from __future__ import annotations

__all__ = ["COMMENT_PING", "DONE", "data_frame", "event_frame"]

COMMENT_PING = b": ping\n\n"
"""A comment: SSE parsers ignore it, but it resets the timeouts of clients and proxies that watch for bytes."""

DONE = b"data: [DONE]\n\n"
"""The end of an OpenAI chat or completions stream. Anthropic and Responses streams must not contain it."""


def data_frame(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


def event_frame(name: str, payload: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + payload + b"\n\n"
