"""An image file's format and size, read from its header before it is decoded. Pure.

A decoder allocates three bytes for every pixel that a header claims, so the claim is read and bounded first. Only
formats that the decoder reads are passed on: it would try anything else as sound or film.
"""

from __future__ import annotations

import struct

from cortex.errors import BadRequest, UnsupportedValue

__all__ = ["MAX_BYTES", "MAX_PIXELS", "MAX_RATIO", "image_size"]

MAX_BYTES = 32 * 1024 * 1024
"""Of one image file."""
MAX_PIXELS = 50_000_000
"""Of one image: 150 MB decoded. Photographs of 48 megapixels and 8k screenshots are smaller."""
MAX_RATIO = 100
"""Longer to shorter side: after scaling, the shorter side must still have a pixel."""

_PNG = b"\x89PNG\r\n\x1a\n"
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG's start-of-frame markers (ITU-T T.81, table B.1); the three left out are tables or reserved."""


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels.

    Raises BadRequest for data that is no image or an image that is too large, UnsupportedValue for WebP.
    """
    if len(data) > MAX_BYTES:
        raise BadRequest(f"an image has {len(data)} bytes; at most {MAX_BYTES} are accepted", param="messages")
    try:
        width, height = _claimed_size(data)
    except (struct.error, IndexError):
        raise BadRequest("an image is cut short", param="messages") from None
    if not width or not height or width * height > MAX_PIXELS:
        raise BadRequest(f"an image of {width}x{height} pixels is not accepted; send a smaller one", param="messages")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise BadRequest(f"an image of {width}x{height} pixels is too narrow a strip", param="messages")
    return width, height


def _claimed_size(data: bytes) -> tuple[int, int]:
    if data.startswith(_PNG) and data[12:16] == b"IHDR":
        width, height = struct.unpack_from(">II", data, 16)
    elif data.startswith(b"\xff\xd8"):
        height, width = struct.unpack_from(">HH", data, _jpeg_frame(data) + 5)
    elif data.startswith((b"GIF87a", b"GIF89a")):
        width, height = struct.unpack_from("<HH", data, 6)
    elif data.startswith(b"BM"):
        width, height = map(abs, struct.unpack_from("<ii", data, 18))
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        raise UnsupportedValue("WebP images can't be read here; send PNG, JPEG, GIF or BMP", param="messages")
    else:
        raise BadRequest("an image is none of PNG, JPEG, GIF and BMP", param="messages")
    return width, height


def _jpeg_frame(data: bytes) -> int:
    """The offset of the first frame header's marker; the segments before it are skipped (ITU-T T.81, B.1)."""
    place = 2
    while True:
        while data[place] != 0xFF or data[place + 1] in {0x00, 0xFF}:
            place += 1
        if data[place + 1] in _FRAME_HEADERS:
            return place
        (length,) = struct.unpack_from(">H", data, place + 2)
        place += 2 + length
