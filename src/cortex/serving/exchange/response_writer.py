"""Writes one HTTP response with plain calls; the one place where data waits for a slow client, and how much of it may.

The server's connection (`http.protocol.Connection`) is found in the ASGI scope. As long as it takes data, a write
goes to its transport on the caller's stack. While it doesn't, writes are kept here and a task sends them. Under
another ASGI server there is no such connection and every write takes the second way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

from litestar.types import Receive, Scope, Send

__all__ = [
    "CONNECTION",
    "MAX_UNSENT_BYTES",
    "ClientConnection",
    "ClientTooSlow",
    "Headers",
    "Receive",
    "ResponseWriter",
    "Scope",
    "Send",
]

Headers = list[tuple[bytes, bytes]]

CONNECTION = "cortex.connection"
"""The scope's extension that holds the server's connection."""

MAX_UNSENT_BYTES = 4 * 2**20
"""What may wait for one client, beyond the kernel's and the transport's buffers. An answer of 10,000 tokens is about
2 MB of SSE, so a client may stop reading for minutes while it is generated; 64 such clients still fit into 256
MiB."""


class ClientConnection(Protocol):
    """What a writer needs of the connection that carries its response."""

    @property
    def write_paused(self) -> bool:
        """Whether the transport's buffer is full: `send` would wait."""
        ...

    def abort(self) -> None:
        """Close it at once, without sending what waits."""
        ...


class ClientTooSlow(Exception):
    """More than the allowed bytes wait for the client."""


class ResponseWriter:
    """`start` comes first, once; then `write`, the last one with `more` False. What is written behind that is dropped.

    `on_failure` is called once when writing can't go on: `failure` is ClientTooSlow, or what `send` raised. What is
    written after that is dropped. A single write may be of any size: only those that come while too much waits are
    too many.
    """

    def __init__(
        self,
        scope: Scope,
        send: Send,
        *,
        on_failure: Callable[[], None],
        max_unsent_bytes: int = MAX_UNSENT_BYTES,
    ) -> None:
        self._connection: ClientConnection | None = (scope.get("extensions") or {}).get(CONNECTION)  # type: ignore[assignment]
        self._send = cast("Callable[[Any], Coroutine[Any, Any, None]]", send)
        self._on_failure = on_failure
        self._max_unsent_bytes = max_unsent_bytes
        self._unsent: deque[dict[str, Any]] = deque()
        self._unsent_bytes = 0
        self._taken_at = 0.0
        self._is_over = False
        self.sending: asyncio.Task[None] | None = None
        self.failure: Exception | None = None

    def start(self, status: int, headers: Headers) -> None:
        self._put({"type": "http.response.start", "status": status, "headers": headers}, 0)

    def write(self, body: bytes, *, more: bool = True) -> None:
        if self._is_over:
            return
        self._is_over = not more
        self._put({"type": "http.response.body", "body": body, "more_body": more}, len(body))

    @property
    def blocked(self) -> bool:
        """Whether something waits for the client."""
        return self.sending is not None

    def blocked_s(self) -> float:
        """For how many seconds the client has taken nothing of what waits for it; 0 when nothing does."""
        return 0.0 if self.sending is None else asyncio.get_running_loop().time() - self._taken_at

    def abort(self) -> None:
        """Close the client's connection without sending the rest."""
        if self._connection is not None:
            self._connection.abort()

    def close(self) -> None:
        """Drop what waits. The owner calls it when the response is over, however it ended."""
        if self.sending is not None:
            self.sending.cancel()
            self.sending = None  # one that is cancelled before its first step doesn't get to its `finally`

    def _put(self, message: dict[str, Any], size: int) -> None:
        if self.failure is not None:
            return
        if self.sending is None and self._connection is not None and not self._connection.write_paused:
            _send_now(self._send(message))
            return
        if self._unsent_bytes >= self._max_unsent_bytes:
            self._fail(ClientTooSlow(f"{self._unsent_bytes} bytes wait for the client"))
            return
        self._unsent.append(message)
        self._unsent_bytes += size
        if self.sending is None:
            loop = asyncio.get_running_loop()
            self._taken_at = loop.time()
            self.sending = loop.create_task(self._send_rest())

    async def _send_rest(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while self._unsent:
                message = self._unsent.popleft()
                await self._send(message)  # waits as long as the transport's buffer is full
                self._unsent_bytes -= len(message.get("body", b""))
                self._taken_at = clock()
        except Exception as error:  # noqa: BLE001 - the owner's, who asks for it
            self._fail(error)
        finally:
            self.sending = None

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self._unsent.clear()
        self._on_failure()


def _send_now(sending: Coroutine[Any, Any, None]) -> None:
    """Run uvicorn's `send` to its end here: it waits for nothing but a full transport, and that one isn't full."""
    try:
        sending.send(None)
    except StopIteration:
        return
    sending.close()
    raise RuntimeError("the server's send waited although its transport takes data")
