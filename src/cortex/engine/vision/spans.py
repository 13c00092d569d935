"""Images in a prompt: which cells they fill, and the placeholders for them among the tokens. Pure.

An image takes cells of the KV pool like tokens do, so the token buffer has an element for each of them: a negative
number made from the image's bytes. Prefixes are then shared, kept and restored as between texts: the same image
matches, another one can't. No vocabulary has negative ids and no client may send them.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from hashlib import blake2b, shake_128

import numpy as np
from numpy.typing import NDArray

__all__ = ["ImageSpan", "Picture", "PreparedPrompt", "image_key", "placeholders"]

_SIGN = 0x80000000


@dataclass(slots=True, eq=False)
class Picture:
    """One image of a prompt, `number` in the prompt's order.

    `parts` are the whole prompt, texts and images' bytes: how an image is cut into tiles may depend on its place.
    `encoding` gives the embeddings of each of its spans (float32, a row per token), while they are wanted. `dropped`
    tells the encoder, in its thread, that they no longer are.
    """

    parts: list[str | bytes]
    number: int
    spans: list[ImageSpan] = field(default_factory=list)
    encoding: Future[list[NDArray[np.float32]]] | None = None
    dropped: bool = False

    @property
    def ready(self) -> bool:
        return self.encoding is not None and self.encoding.done()

    def drop(self) -> None:
        """The embeddings are no longer wanted. An encoding that runs ends at its next pause."""
        self.dropped = True
        if self.encoding is not None:
            self.encoding.cancel()
            self.encoding = None


@dataclass(slots=True, eq=False)
class ImageSpan:
    """Tokens `start` to `end` of a prompt that are an image, or one tile of it: `index` counts its picture's spans.

    `positions`: int32, a row per dimension that the model's attention counts in (one, or four with M-RoPE), a column
    per token. The text after it continues `advance` positions after the first of them: fewer than there are tokens
    where rows and columns are counted separately. `whole`: it must be computed in one step. Not `causal`: in one
    physical batch even, since its tokens attend to each other in both directions.
    """

    picture: Picture
    index: int
    start: int
    positions: NDArray[np.int32]
    advance: int
    whole: bool = False
    causal: bool = True

    @property
    def count(self) -> int:
        return len(self.positions[0])

    @property
    def end(self) -> int:
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A prompt as the engine takes it: token ids, placeholders of images included."""

    tokens: list[int]
    spans: tuple[ImageSpan, ...] = ()
    pictures: list[Picture] = field(default_factory=list)


def image_key(image: bytes, projector: bytes) -> bytes:
    """A 32-byte hash of `image` for one projector, which the key `projector` names (64 bytes at most)."""
    return blake2b(image, key=projector, digest_size=32).digest()


def placeholders(key: bytes, index: int, count: int) -> list[int]:
    """The placeholders of span `index` of an image, which has `count` tokens: negative int32 numbers."""
    digest = shake_128(key + index.to_bytes(4, "little") + count.to_bytes(4, "little")).digest(4 * count)
    numbers = np.frombuffer(digest, dtype="<u4") | np.uint32(_SIGN)
    found: list[int] = numbers.view(np.int32).tolist()
    return found
