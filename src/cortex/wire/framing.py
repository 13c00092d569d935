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
    """A frame longer than MAX_FRAME_BYTES was announced: the stream is corrupt and can't be resynchronised."""


def encode_frame(message: object) -> bytes:
    """`message` as one frame."""
    body = _encoder.encode(message)
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
        if self._buffer:
            self._buffer += data
            messages, consumed = self._decode(self._buffer)
            del self._buffer[:consumed]
        else:  # the usual case: whole frames, decoded without a copy
            messages, consumed = self._decode(data)
            self._buffer += data[consumed:]
        return messages

    def _decode(self, data: bytes | bytearray) -> tuple[list[T], int]:
        """The whole frames at the front of `data`, and how many bytes they take."""
        messages: list[T] = []
        start = 0
        with memoryview(data) as view:
            while len(view) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(view, start)
                if length > MAX_FRAME_BYTES:
                    raise FrameTooLarge(f"frame of {length} bytes announced, at most {MAX_FRAME_BYTES} are accepted")
                end = start + _LENGTH.size + length
                if len(view) < end:
                    break
                messages.append(self._decoder.decode(view[start + _LENGTH.size : end]))
                start = end
        return messages, start

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame; above zero at the end of the stream, the last frame was cut off."""
        return len(self._buffer)
