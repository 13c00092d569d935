"""Length-prefixed msgpack: 4 bytes of big-endian length, then the message.

The same format on worker sockets and between gateways and neurons.
"""

from __future__ import annotations

import struct
from typing import Generic, TypeVar

import msgspec

__all__ = ["MAX_FRAME_BYTES", "FrameDecoder", "FrameTooLarge", "encode_frame"]

T = TypeVar("T")

_LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 256 * 1024 * 1024
"""Large enough for a request with several large images; bounds what a corrupted length prefix makes us buffer."""

_encoder = msgspec.msgpack.Encoder()


class FrameTooLarge(ValueError):
    """A frame longer than MAX_FRAME_BYTES. Announced by a peer, it means that the stream is corrupt: it can't be
    resynchronised."""


def encode_frame(message: object) -> bytes:
    """`message` as one frame. Raises FrameTooLarge: the peer would drop the connection, with all requests on it."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"a message of {len(body)} bytes, at most {MAX_FRAME_BYTES} can be sent")
    return _LENGTH.pack(len(body)) + body


class FrameDecoder(Generic[T]):
    """Turns a stream of bytes, cut anywhere, into messages.

    Raises FrameTooLarge on a corrupt prefix and msgspec.DecodeError on a body of another shape; after either the
    connection must be dropped.
    """

    def __init__(self, decoder: msgspec.msgpack.Decoder[T]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[T]:
        """The messages that `data` completes, in order; the rest is kept for the next call."""
        if not self._buffer:  # the usual case: whole frames, decoded where they lie
            messages, consumed = self._decode(data)
            self._buffer += data[consumed:]
            return messages
        self._buffer += data
        if len(self._buffer) < self._needed():
            return []
        # As bytes, since messages may hold on to them (msgspec.Raw): a bytearray that is referred to can't shrink.
        whole = bytes(self._buffer)
        messages, consumed = self._decode(whole)
        self._buffer = bytearray(whole[consumed:])
        return messages

    def _needed(self) -> int:
        """Bytes until the first frame is complete. Raises FrameTooLarge."""
        return _LENGTH.size if len(self._buffer) < _LENGTH.size else _LENGTH.size + _length(self._buffer, 0)

    def _decode(self, data: bytes) -> tuple[list[T], int]:
        """The whole frames at the front of `data`, and how many bytes they take."""
        messages: list[T] = []
        start = 0
        view = memoryview(data)
        while len(data) - start >= _LENGTH.size:
            end = start + _LENGTH.size + _length(data, start)
            if len(data) < end:
                break
            messages.append(self._decoder.decode(view[start + _LENGTH.size : end]))
            start = end
        return messages, start

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame; above zero at the end of the stream, the last frame was cut off."""
        return len(self._buffer)


def _length(data: bytes | bytearray, start: int) -> int:
    length: int = _LENGTH.unpack_from(data, start)[0]
    if length > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"frame of {length} bytes announced, at most {MAX_FRAME_BYTES} are accepted")
    return length
