"""Requests too large for one frame: sent in parts, so that other frames don't wait for them."""

from __future__ import annotations

from collections.abc import Callable

from cortex.wire.connection import SubmitPart

__all__ = ["PART_BYTES", "Uploads"]

PART_BYTES = 256 * 1024
"""What another frame waits for at most: 2 ms on a 1 Gbit/s link."""


class Uploads:
    """Sends one part after the other, by turns, as long as the transport takes data. `send` writes a frame."""

    def __init__(self, send: Callable[[SubmitPart], None]) -> None:
        self._send = send
        self._rest: dict[str, memoryview] = {}
        self._paused = False

    def add(self, request_id: str, data: bytes) -> None:
        """`data` is the msgpack of a Submit."""
        self._rest[request_id] = memoryview(data)
        self._send_parts()

    def drop(self, request_id: str) -> None:
        self._rest.pop(request_id, None)

    def pause(self) -> None:
        """The transport's buffer is full."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._send_parts()

    def _send_parts(self) -> None:
        while self._rest and not self._paused:
            request_id = next(iter(self._rest))
            data = self._rest.pop(request_id)
            part, rest = data[:PART_BYTES], data[PART_BYTES:]
            if rest:
                self._rest[request_id] = rest  # behind the others
            self._send(SubmitPart(request_id, bytes(part), last=not rest))
