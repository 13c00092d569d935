"""Images in a prompt: which cells they fill, and the placeholders for them among the tokens. Pure.

An image takes cells of the KV pool like tokens do, so the token buffer has an element for each of them: a negative
number made from the image's bytes. Prefixes are then shared, kept and restored as between texts: the same image
matches, another one can't. No vocabulary has negative ids and no client may send them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from hashlib import blake2b, shake_128

import numpy as np
from numpy.typing import NDArray

from cortex.errors import InternalError

__all__ = ["ImageSpan", "Picture", "PreparedPrompt", "PromptLayout", "image_key", "images_in", "placeholders"]

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
        """Whether the embeddings are there. A failed encoding never is: `Vision.encode_next` reports it."""
        return self.encoding is not None and self.encoding.done() and self.encoding.exception() is None

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


class PromptLayout:
    """Builds the tokens and spans of a prompt with images, added in order.

    `parts`: texts and images' bytes. `key` names the projector. `vocabulary`: number of token ids. `position`: where
    the model counts the next token.
    """

    def __init__(self, parts: list[str | bytes], key: bytes, vocabulary: int) -> None:
        self.position = 0
        self._keys = [image_key(image, key) for _, image in images_in(parts)]
        self._pictures = [Picture(parts, number) for number in range(len(self._keys))]
        self._tokens: list[int] = []
        self._spans: list[ImageSpan] = []
        self._vocabulary = vocabulary

    def add_text(self, tokens: list[int]) -> None:
        """Raises InternalError for a token that the vocabulary doesn't have."""
        if any(not 0 <= token < self._vocabulary for token in tokens):
            raise InternalError("the vocabulary lacks a marker token that goes around images")
        self._tokens += tokens
        self.position += len(tokens)

    def add_span(self, number: int, positions: NDArray[np.int32], advance: int, *, whole: bool, causal: bool) -> None:
        """The next span of image `number`; the other parameters are those of ImageSpan."""
        picture = self._pictures[number]
        index = len(picture.spans)
        span = ImageSpan(picture, index, len(self._tokens), positions, advance, whole, causal)
        picture.spans.append(span)
        self._spans.append(span)
        self._tokens += placeholders(self._keys[number], index, span.count)
        self.position += advance

    def finished(self) -> PreparedPrompt:
        return PreparedPrompt(self._tokens, tuple(self._spans), self._pictures)


def images_in(parts: Sequence[str | bytes]) -> list[tuple[int, bytes]]:
    """The images and their indices in `parts`."""
    return [(place, part) for place, part in enumerate(parts) if isinstance(part, bytes)]


def image_key(image: bytes, projector: bytes) -> bytes:
    """A 32-byte hash of `image` for one projector, which the key `projector` names (64 bytes at most)."""
    return blake2b(image, key=projector, digest_size=32).digest()


def placeholders(key: bytes, index: int, count: int) -> list[int]:
    """The placeholders of span `index` of an image, which has `count` tokens: negative int32 numbers."""
    digest = shake_128(key + index.to_bytes(4, "little") + count.to_bytes(4, "little")).digest(4 * count)
    numbers = np.frombuffer(digest, dtype="<u4") | np.uint32(_SIGN)
    found: list[int] = numbers.view(np.int32).tolist()
    return found
