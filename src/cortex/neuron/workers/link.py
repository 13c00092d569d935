"""The parent's end of a worker's socketpair: commands out, notices in, as frames of `wire.framing`.

An asyncio.Protocol rather than asyncio streams: the notices of one read are handled on the reader's stack, so that a
token wakes no task and the parent wakes once per engine step.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import cast

import msgspec

from cortex.errors import WorkerDied
from cortex.wire.framing import FrameDecoder, FrameTooLarge, encode_frame
from cortex.wire.worker import Command, RelayedNotice

__all__ = ["WorkerLink", "connect"]

logger = logging.getLogger(__name__)

_notices: msgspec.msgpack.Decoder[RelayedNotice] = msgspec.msgpack.Decoder(RelayedNotice)


class WorkerLink(asyncio.Protocol):
    """Calls `on_notice` with each notice in order, and `on_close` once: with the error that broke the link, None for
    EOF. Both on the event loop."""

    def __init__(
        self, on_notice: Callable[[RelayedNotice], None], on_close: Callable[[Exception | None], None]
    ) -> None:
        self._on_notice = on_notice
        self._on_close = on_close
        self._decoder = FrameDecoder(_notices)
        self._transport: asyncio.WriteTransport | None = None
        self._error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's don't inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        """What a notice carries undecoded (events) may be found out of shape by whoever handles it."""
        try:
            for notice in self._decoder.feed(data):
                self._on_notice(notice)
        except (FrameTooLarge, msgspec.DecodeError) as error:
            self._error = error
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_close(self._error or exc)

    def send(self, command: Command) -> None:
        """Write `command`. Raises WorkerDied when the worker's end is closed, FrameTooLarge for one it wouldn't
        read."""
        if self._transport is None or self._transport.is_closing():
            raise WorkerDied("the worker process has ended")
        self._transport.write(encode_frame(command))

    def close(self) -> None:
        """Idempotent. The worker exits at the EOF."""
        if self._transport is not None:
            self._transport.close()


async def connect(
    parent: socket.socket, on_notice: Callable[[RelayedNotice], None], on_close: Callable[[Exception | None], None]
) -> WorkerLink:
    """Take over `parent`, one end of a socketpair."""
    loop = asyncio.get_running_loop()
    _, link = await loop.create_unix_connection(lambda: WorkerLink(on_notice, on_close), sock=parent)
    return link
