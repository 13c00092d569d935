"""Text markers that stand for images while a template renders the conversation.

Templates may reorder results, drop turns or repeat them; the markers in the rendered prompt tell which image belongs
where. A marker is derived from the image's bytes, so it is the same in every turn, and a client can't write one by
accident.
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
    """The images of messages and of tool results, as bytes, in the order in which the client sent them."""
    parts = [part for message in messages for part in message.parts]
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, inference.ToolResult) else [part])]
    return [part.data for part in flat if isinstance(part, inference.Image)]


def prompt_parts(prompt: str, images: Sequence[bytes]) -> list[str | bytes]:
    """`prompt` split into texts and images, in order.

    Raises BadRequest if the template left an image out: the model would answer without it.
    """
    by_marker = {image_marker(image): image for image in images}
    for number, marker in enumerate(by_marker, 1):
        if marker not in prompt:
            raise BadRequest(
                f"the model's chat template leaves out image {number}: send it in a user message", param="messages"
            )
    pieces = re.split(f"({'|'.join(map(re.escape, by_marker))})", prompt)
    return [by_marker.get(piece, piece) for piece in pieces if piece]
