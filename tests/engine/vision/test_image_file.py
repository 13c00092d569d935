"""Headers are read before anything is decoded, and what they claim is bounded."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.engine.vision.image_file import MAX_BYTES, image_size
from cortex.errors import BadRequest, UnsupportedValue
from tests.pictures import RED, png

JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(9) + b"\xff\xc4\x00\x03\x00"
    b"\xff\xff\xc2\x00\x11\x08" + struct.pack(">HH", 480, 640) + bytes(12)
)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png(RED, 30, 20), (30, 20)),
        (JPEG, (640, 480)),
        (b"GIF89a" + struct.pack("<HH", 300, 200) + bytes(8), (300, 200)),
        (b"BM" + bytes(16) + struct.pack("<ii", 64, -48), (64, 48)),
    ],
    ids=["png", "jpeg", "gif", "bmp"],
)
def test_the_size_is_what_the_header_says(data: bytes, size: tuple[int, int]) -> None:
    assert image_size(data) == size


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"%PDF-1.7", b"ID3\x04", b"RIFF\0\0\0\0WAVE", b"<svg/>", b"\0\0\0\x20ftypmp42"]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest, match="none of PNG, JPEG, GIF and BMP"):
        image_size(data)


def test_webp_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedValue, match="WebP"):
        image_size(b"RIFF\x24\0\0\0WEBPVP8 ")


@pytest.mark.parametrize("size", [(50_000, 50_000), (0, 10), (10_000, 99)])
def test_a_claim_that_would_fill_the_memory_or_leave_no_pixel_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BadRequest, match=f"{size[0]}x{size[1]}"):
        image_size(png(RED, 1, 1)[:16] + struct.pack(">II", *size))


def test_a_file_has_a_most_size() -> None:
    with pytest.raises(BadRequest, match="bytes; at most"):
        image_size(png(RED) + bytes(MAX_BYTES))


@given(data=st.sampled_from([JPEG, png(RED), b"GIF89a", b"BM"]), cut=st.integers(0, 60), junk=st.binary(max_size=40))
def test_damaged_headers_are_the_callers_mistake(data: bytes, cut: int, junk: bytes) -> None:
    """Whatever the bytes are, there is a size or a refusal."""
    try:
        width, height = image_size(data[:cut] + junk)
    except BadRequest:
        return
    assert width > 0
    assert height > 0
