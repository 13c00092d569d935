"""Hashes of a request's beginning, by which the gateway, which has no tokenizer, finds neurons with cached prefixes.

Gateway and engine compute them alike. A request is serialised in the order in which templates render it (tools, then
the turns, oldest first); each full block of BLOCK_BYTES gives one hash of everything up to its end. The hashes of a
conversation begin with those of its earlier turns, so the number of leading hashes that a neuron publishes tells how
much of a prompt it has cached. An image counts as one block whatever its file's size: to a model it is a few hundred
tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b, shake_128
from itertools import islice

import msgspec
from msgspec.structs import replace

from cortex.wire.inference import Image, InferenceRequest, Part, ToolResult

__all__ = ["BLOCK_BYTES", "prefix_hashes"]

BLOCK_BYTES = 1024
"""About 250 tokens of English text, which is fine enough to rank neurons."""

_MAX_BLOCKS = 512
"""Half a megabyte of text. What comes after it doesn't influence the choice of a neuron."""

_encoder = msgspec.msgpack.Encoder(order="deterministic")


def prefix_hashes(request: InferenceRequest) -> list[int]:
    """One hash per full block, from the start; [] for a request shorter than a block.

    Hashes have 63 bits, so that they fit a signed 64-bit integer.
    """
    state = blake2b(request.model.encode(), digest_size=8)
    hashes: list[int] = []
    for block in islice(_blocks(_serialised(request)), _MAX_BLOCKS):
        state.update(block)
        hashes.append(int.from_bytes(state.digest()) >> 1)
    return hashes


def _serialised(request: InferenceRequest) -> Iterator[bytes]:
    if isinstance(request.prompt, str):
        yield request.prompt.encode("utf-8", "surrogatepass")
    elif request.prompt is not None:
        yield _encoder.encode(request.prompt)
    for tool in request.tools:
        yield _encoder.encode(tool)
    for message in request.messages:
        yield _encoder.encode(replace(message, parts=[_with_digests(part) for part in message.parts]))


def _with_digests(part: Part) -> Part:
    if isinstance(part, ToolResult):
        return replace(part, parts=[_digest(inner) if isinstance(inner, Image) else inner for inner in part.parts])
    return _digest(part) if isinstance(part, Image) else part


def _digest(image: Image) -> Image:
    return Image(shake_128(image.data).digest(BLOCK_BYTES), image.mime)


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= BLOCK_BYTES:
            yield bytes(held[:BLOCK_BYTES])
            del held[:BLOCK_BYTES]
