"""Images in a prompt: which cells they fill, and what stands for them among the tokens. Pure.

An image takes cells of the KV pool like tokens do, so the token buffer has an entry for each of them: a negative
number made from the image's bytes. Prefixes are then shared, kept and restored as between texts: the same picture
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
    """One image of a prompt, `number` in the prompt's order, and all the text around it: how an image is cut into
    tiles may depend on its place. `encoding` yields the embeddings of each of its spans, while they are wanted;
    `dropped` tells the encoder that they no longer are."""

    parts: list[str | bytes]
    number: int
    spans: list[ImageSpan] = field(default_factory=list)
    encoding: Future[list[NDArray[np.float32]]] | None = None
    dropped: bool = False

    @property
    def ready(self) -> bool:
        return self.encoding is not None and self.encoding.done()

    def forget(self) -> None:
        """Nobody wants the embeddings any more. An encoding that runs ends when it can."""
        self.dropped = True
        if self.encoding is not None:
            self.encoding.cancel()
            self.encoding = None


@dataclass(slots=True, eq=False)
class ImageSpan:
    """Tokens `start` to `end` of a prompt that are an image, or one tile of it.

    `positions` has a row per dimension that the model's attention counts in (one, or four with M-RoPE) and a column per
    token; the text behind goes on `advance` positions after the first of them, which is fewer than there are tokens
    where rows and columns are counted apart. `whole`: it must be computed in one go; not `causal`: even in one physical
    batch, since its tokens see each other in both directions.
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
    """A prompt as the engine takes it."""

    tokens: list[int]
    spans: tuple[ImageSpan, ...] = ()
    pictures: list[Picture] = field(default_factory=list)


def image_key(image: bytes, projector: bytes) -> bytes:
    """What tells `image` from all others, as this projector sees it."""
    return blake2b(image, key=projector, digest_size=32).digest()


def placeholders(key: bytes, index: int, count: int) -> list[int]:
    """The entries that stand for span `index` of an image, which has `count` tokens: negative numbers."""
    digest = shake_128(key + index.to_bytes(4, "little") + count.to_bytes(4, "little")).digest(4 * count)
    numbers = np.frombuffer(digest, dtype="<u4") | np.uint32(_SIGN)
    found: list[int] = numbers.view(np.int32).tolist()
    return found
