"""One generation's tokens, from the prompt to the last one sampled, and how far the KV pool holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cortex.engine.kv.pool import Slot
    from cortex.engine.vision.spans import ImageSpan

__all__ = ["Int32Array", "Sequence", "TokenBuffer"]

Int32Array = NDArray[np.int32]


class TokenBuffer:
    """A growing int32 array: prompts are compared and copied into batches as arrays, never token by token.

    Single tokens go through a memoryview: after a decode has flushed the caches, numpy's way to one number takes 50 µs.
    `images` are the spans that hold one, in order; their entries stand for it (see `engine.images`).
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
        """Tokens `start` to `end` without copying; valid until the next append."""
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

    # ---- images among the tokens

    def position(self, index: int) -> int:
        """Where the model counts token `index` to be; behind an image that may be less than `index`."""
        if not self.images:
            return index
        return index - sum(span.count - span.advance for span in self.images if span.end <= index)

    def image_at(self, index: int) -> ImageSpan | None:
        """The image that token `index` belongs to."""
        return next((span for span in self.images if span.start <= index < span.end), None)

    def next_image(self, index: int) -> ImageSpan | None:
        """The first image that begins behind token `index`."""
        return next((span for span in self.images if span.start > index), None)

    def boundary(self, length: int) -> int:
        """The most of the first `length` tokens that doesn't end inside an image: there nothing can be cut."""
        span = self.image_at(length) if self.images else None
        return span.start if span else length

    def _grow(self, needed: int) -> None:
        data = np.empty(max(needed, 2 * len(self._data), 256), dtype=np.int32)
        data[: self._length] = self._data[: self._length]
        self._data = data
        self._cells = data.data

    def common_prefix(self, other: Int32Array, length: int) -> int:
        """How many of the first tokens equal those of `other`, at most `length`."""
        length = min(length, self._length, len(other))
        if length == 0 or self._data[0] != other[0]:
            return 0
        differs = self._data[:length] != other[:length]
        first = int(differs.argmax())
        return first if differs[first] else length


@dataclass(slots=True, eq=False)
class Sequence:
    """A choice of a request as the scheduler sees it.

    `tokens` are all that is known (prompt, replayed and sampled); the first `computed` of them are in the KV pool.
    `slot` is None while waiting. `drafts` counts the guessed tokens at the end of `tokens`, of which none is kept
    unless the model agrees; `acceptance` is the running share that is, `plain_next` asks for a step without any.
    `stop_at`: a waiting sequence wants to copy exactly this prefix (models that can't roll back), so a prefill chunk
    must not run past it; `checkpoint_at`: a copy of this prefix is to be kept. `scoring`: the logits of every prompt
    position are wanted. `hashes` are the request's, by `wire.prefix`.
    """

    request_id: str
    choice: int
    tokens: TokenBuffer
    prompt_length: int
    arrival: int
    priority: int = 0
    principal: str | None = None
    share: bool = True
    hashes: list[int] = field(default_factory=list)
    slot: Slot | None = None
    cached: int = 0
    drafts: int = 0
    stop_at: int | None = None
    checkpoint_at: int | None = None
    scoring: bool = False
    admitted: bool = False
    preemptions: int = 0
    acceptance: float | None = None
    plain_next: bool = False

    @property
    def computed(self) -> int:
        return self.slot.length if self.slot else 0

    @property
    def pending(self) -> int:
        """Tokens known but not yet in the KV pool; one for a sequence that decodes."""
        return len(self.tokens) - self.computed

    @property
    def image(self) -> ImageSpan | None:
        """The image that is to be computed next."""
        return self.tokens.image_at(self.computed) if self.tokens.images else None

    @property
    def order(self) -> tuple[int, int, int]:
        """Higher classes first, then first come, first served."""
        return (-self.priority, self.arrival, self.choice)
