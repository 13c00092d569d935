"""A sequence id in use, and the changes to llama.cpp's memory that the bookkeeping orders. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from cortex.engine.kv.tokens import Int32Array, TokenBuffer

__all__ = ["CopyPrefix", "Discard", "Effect", "PrefixMatch", "Reuse", "Save", "Slot", "Truncate"]


class Reuse(enum.Enum):
    """What a model's memory can do with a prefix."""

    PARTIAL = "partial"  # any prefix of a sequence can be copied, any tail removed
    EXACT = "exact"  # recurrent state: only a whole sequence can be copied, nothing can be removed
    NONE = "none"


@dataclass(slots=True, eq=False)
class Slot:
    """A sequence id in use: `running` while a sequence computes on it, cached once that sequence has finished.

    The first `length` tokens of `tokens` are in llama.cpp's memory. `cells` are `length` numbers of the pool, for
    counting only: llama.cpp chooses its own cells. `last_used` is the pool's counter, greater = later. `hashes` are
    the request's prefix hashes (`wire.prefix`).
    """

    id: int
    tokens: TokenBuffer
    principal: str | None
    length: int = 0
    running: bool = True
    last_used: int = 0
    cells: TokenBuffer = field(default_factory=TokenBuffer)
    hashes: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """The first `length` tokens of `slot` can be shared."""

    slot: Slot
    length: int

    @property
    def takes_over(self) -> bool:
        """Whether the slot itself can be continued: it is cached and shared in full."""
        return not self.slot.running and self.length == self.slot.length


@dataclass(frozen=True, slots=True)
class CopyPrefix:
    """Share the cells of sequence id `source` with `target`. `length` is in positions, as the model counts: with
    images there may be more tokens than positions."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Truncate:
    """Remove everything from position `length` on from sequence id `slot`."""

    slot: int
    length: int


@dataclass(frozen=True, slots=True)
class Discard:
    """Remove sequence id `slot` from memory completely."""

    slot: int


@dataclass(frozen=True, slots=True)
class Save:
    """`tokens` of `slot` are about to be discarded: copy them to host RAM if that is worth it."""

    slot: Slot
    tokens: Int32Array


Effect = CopyPrefix | Truncate | Discard | Save
