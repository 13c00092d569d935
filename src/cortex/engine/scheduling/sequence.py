"""One choice's tokens, from the prompt to the last one sampled, and its part of a step's batch. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cortex.engine.kv.slot import Slot
from cortex.engine.kv.tokens import TokenBuffer
from cortex.engine.vision.spans import ImageSpan

__all__ = ["Entry", "Sequence"]


@dataclass(slots=True, eq=False)
class Sequence:
    """A choice of a request as the scheduler sees it; only the scheduler changes it once it is submitted.

    `tokens` are all that is known (prompt, replayed and sampled tokens, no guesses); the first `computed` of them are
    in the KV pool. `slot` is None while waiting. `cached`: prompt tokens that were taken from a cached prefix when the
    sequence began; `started`: some of it was scheduled since.
    `stop_at`: a waiting sequence wants to copy exactly this prefix (models that can't roll back), so a prefill chunk
    must not run past it; `checkpoint_at`: a copy of this prefix is to be kept. `scoring`: the logits of every prompt
    position are wanted. `hashes` are the request's, by `wire.prefix`. `number` counts the choices of a request from 0.
    """

    request_id: str
    number: int
    tokens: TokenBuffer
    prompt_length: int
    arrival: int
    priority: int = 0
    principal: str | None = None
    share: bool = True
    hashes: list[int] = field(default_factory=list)
    scoring: bool = False
    slot: Slot | None = None
    cached: int = 0
    stop_at: int | None = None
    checkpoint_at: int | None = None
    started: bool = False
    preemptions: int = 0

    @property
    def computed(self) -> int:
        return self.slot.length if self.slot else 0

    @property
    def pending(self) -> int:
        """Tokens known but not yet in the KV pool; one for a sequence that decodes.

        Negative between `schedule` and `commit` where guesses take more cells than there are known tokens.
        """
        return len(self.tokens) - self.computed

    @property
    def image(self) -> ImageSpan | None:
        """The image that is to be computed next."""
        return self.tokens.image_at(self.computed) if self.tokens.images else None

    @property
    def order(self) -> tuple[int, int, int]:
        """Higher classes first, then first come, first served."""
        return (-self.priority, self.arrival, self.number)


AnySequence_co = TypeVar("AnySequence_co", bound=Sequence, covariant=True)


@dataclass(frozen=True, slots=True)
class Entry(Generic[AnySequence_co]):
    """`count` rows of a step's batch, at tokens `start` to `start + count` of `sequence`.

    The last rows are those of `drafts`: guessed tokens, which aren't part of `sequence.tokens`.
    `outputs`: how many logits rows are sampled from, counted from the end. `scored`: the logits rows of all `count`
    positions are wanted besides. `image`: the rows are embeddings of this image; such an entry is a batch of its own.
    """

    sequence: AnySequence_co
    start: int
    count: int
    outputs: int
    scored: bool = False
    image: ImageSpan | None = None
    drafts: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """How many logits rows are wanted, counted from the end."""
        return self.count if self.scored else self.outputs

    @property
    def decodes(self) -> bool:
        """Whether this is one token, with or without guesses: the next of an answer, or the last of a prompt."""
        return self.count <= 1 + len(self.drafts)
