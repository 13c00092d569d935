"""Clients of the end-to-end tests: the official SDK, and plain HTTP where the bytes matter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from openai import OpenAI

from tests.e2e.processes import PLAIN, Daemon

__all__ = ["TextStream", "chat_body", "open_stream", "sdk"]


def chat_body(content: str, model: str = "talker", **options: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **options}


@contextmanager
def sdk(daemon: Daemon, key: str = "none") -> Iterator[OpenAI]:
    """The official client, without retries, so that every error shows."""
    with OpenAI(base_url=f"{daemon.url}/v1", api_key=key, max_retries=0, timeout=120) as client:
        yield client


class TextStream:
    """An open streamed chat. `error` holds the server's error event, if it sent one; `done` whether [DONE] came."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()
        self.error: dict[str, Any] | None = None
        self.done = False
        self.finish_reason: str | None = None

    def pieces(self) -> Iterator[str]:
        """Text deltas until the stream ends, in whatever way."""
        for line in self._lines:
            if line == "data: [DONE]":
                self.done = True
            elif line.startswith("data: "):
                yield from self._piece(json.loads(line.removeprefix("data: ")))

    def _piece(self, chunk: dict[str, Any]) -> Iterator[str]:
        self.error = chunk.get("error") or self.error
        for choice in chunk.get("choices", []):
            self.finish_reason = choice["finish_reason"] or self.finish_reason
            if text := choice["delta"].get("content"):
                yield text

    def first(self) -> str:
        return next(self.pieces())

    def rest(self) -> str:
        return "".join(self.pieces())


@contextmanager
def open_stream(daemon: Daemon, content: str, **options: Any) -> Iterator[TextStream]:
    """A streamed chat that was accepted. Leaving the context early disconnects the client."""
    body = chat_body(content, stream=True, **options)
    timeout = httpx.Timeout(60)
    with httpx.stream("POST", f"{daemon.url}/v1/chat/completions", json=body, timeout=timeout, **PLAIN) as response:
        assert response.status_code == 200, response.read()
        yield TextStream(response)
