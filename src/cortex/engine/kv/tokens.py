"""A sequence's token ids as a growable int32 array, with the spans of images among them. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cortex.engine.vision.spans import ImageSpan

__all__ = ["Int32Array", "TokenBuffer"]

Int32Array = NDArray[np.int32]


class TokenBuffer:
    """A growable int32 array of token ids: prompts are compared and copied into batches as arrays, not token by token.

    Single elements are read and written through a memoryview: right after a decode has flushed the CPU caches, one
    element access through numpy takes about 50 µs (SmolLM2, two cores).
    `images` are the spans that hold an image, in order; their ids are placeholders (see `engine.vision.spans`).
    """

    __slots__ = ("_cells", "_data", "_length", "images")

    def __init__(
        self,
        tokens: list[int] | Int32Array = [],  # noqa: B006 - copied at once
        images: tuple[ImageSpan, ...] = (),
    ) -> None:
        self.images = images
        self._data: Int32Array = np.array(tokens, dtype=np.int32)
        self._cells = self._data.data
        self._length = len(self._data)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> int:
        token: int = self._cells[index]
        return token

    def view(self, start: int = 0, end: int | None = None) -> Int32Array:
        """Tokens `start` to `end` without copying; valid until the next append or extend."""
        return self._data[start : self._length if end is None else end]

    def append(self, token: int) -> None:
        if self._length == len(self._data):
            self._grow(self._length + 1)
        self._cells[self._length] = token
        self._length += 1

    def extend(self, tokens: list[int]) -> None:
        end = self._length + len(tokens)
        if end > len(self._data):
            self._grow(end)
        self._data[self._length : end] = tokens
        self._length = end

    def truncate(self, length: int) -> None:
        self._length = length

    def common_prefix(self, other: Int32Array, length: int) -> int:
        """How many of the first tokens equal those of `other`, at most `length`."""
        length = min(length, self._length, len(other))
        if length == 0 or self._data[0] != other[0]:
            return 0
        differs = self._data[:length] != other[:length]
        first = int(differs.argmax())
        return first if differs[first] else length

    # ---- images among the tokens

    def position(self, index: int) -> int:
        """The model's position of token `index`; after an image it may be less than `index`."""
        if not self.images:
            return index
        return index - sum(span.count - span.advance for span in self.images if span.end <= index)

    def image_at(self, index: int) -> ImageSpan | None:
        """The image that token `index` belongs to."""
        return next((span for span in self.images if span.start <= index < span.end), None)

    def next_image(self, index: int) -> ImageSpan | None:
        """The first image that starts after token `index`."""
        return next((span for span in self.images if span.start > index), None)

    def boundary(self, length: int) -> int:
        """The greatest length up to `length` that doesn't end inside an image: an image can't be cut."""
        span = self.image_at(length) if self.images else None
        return span.start if span else length

    def _grow(self, needed: int) -> None:
        data = np.empty(max(needed, 2 * len(self._data), 256), dtype=np.int32)
        data[: self._length] = self._data[: self._length]
        self._data = data
        self._cells = data.data
