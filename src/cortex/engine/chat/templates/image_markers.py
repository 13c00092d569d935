"""Where the images of a conversation stand in its prompt. Pure.

Templates see a marker as text, whatever they do to the messages around it: reorder results, drop turns, say one twice.
A marker is made from its image's bytes, so it is the same from turn to turn, nobody writes one by accident, and the
rendered prompt itself says which image comes where.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b

from cortex.errors import BadRequest
from cortex.wire import inference

__all__ = ["collect_images", "image_marker", "prompt_parts"]


def image_marker(image: bytes) -> str:
    """The text that stands for `image` in a prompt."""
    return f"<__media_{blake2b(image, digest_size=16).hexdigest()}__>"


def collect_images(messages: Sequence[inference.Message]) -> list[bytes]:
    """Image bytes in the order in which the client sent them."""
    parts = [part for message in messages for part in message.parts]
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, inference.ToolResult) else [part])]
    return [part.data for part in flat if isinstance(part, inference.Image)]


def prompt_parts(prompt: str, images: Sequence[bytes]) -> list[str | bytes]:
    """`prompt` in pieces, texts and images as they follow each other.

    Raises BadRequest when the template has left an image out: the model would answer without having seen it.
    """
    by_marker = {image_marker(image): image for image in images}
    for number, marker in enumerate(by_marker, 1):
        if marker not in prompt:
            raise BadRequest(
                f"the model's chat template leaves out image {number}: send it in a user message", param="messages"
            )
    pieces = re.split(f"({'|'.join(map(re.escape, by_marker))})", prompt)
    return [by_marker.get(piece, piece) for piece in pieces if piece]
