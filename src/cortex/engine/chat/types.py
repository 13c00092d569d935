"""Where chat and engine meet: what a request becomes before decoding, and how its tokens come apart again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from cortex.wire.events import ReasoningDelta, TextDelta, ToolCallArguments, ToolCallEnd, ToolCallStart

__all__ = ["Constraint", "ConstraintSpec", "Delta", "Prepared", "Splitter"]

Delta = TextDelta | ReasoningDelta | ToolCallStart | ToolCallArguments | ToolCallEnd


@dataclass(frozen=True, slots=True)
class ConstraintSpec:
    """A grammar for the output, in llguidance's Lark dialect, and when it takes hold.

    `after_reasoning`: from the first token that isn't reasoning. `on_tool_marker`: from the token after a tool-call
    marker to the block's end, as often as one comes (each block starts the grammar anew).
    """

    lark: str
    start: Literal["now", "after_reasoning", "on_tool_marker"] = "now"


class Constraint(Protocol):
    """A compiled grammar at one sequence's position."""

    def prepare(self) -> None:
        """Compute what may come next, if that isn't known yet: `apply` then only lays it over the logits.

        May run in another thread while the batch decodes; nothing else here may be called meanwhile.
        """
        ...

    def apply(self, logits: object) -> None:
        """Set what the grammar forbids next to -inf, in place; `logits` is float32 of vocabulary size (numpy view)."""
        ...

    def accept(self, token: int) -> None:
        """Move on by the token that was sampled. Raises InternalError if the grammar forbade it."""
        ...

    def is_complete(self) -> bool:
        """Whether nothing more may follow: the sequence ends here."""
        ...

    def reset(self) -> None:
        """Back to the start (the next tool block)."""
        ...


class Splitter(Protocol):
    """One choice's tokens in, its segments out; see `wire.events` for the invariants.

    The engine feeds every sampled token but the end token, with the whole characters it completed ("" when it ends
    inside one). `finish` flushes what is held back; `cut` says that the output was cut by a length limit.
    Deltas carry `choice`.
    """

    def feed(self, token: int, text: str) -> Sequence[Delta]: ...
    def finish(self, *, cut: bool) -> Sequence[Delta]: ...

    @property
    def in_reasoning(self) -> bool:
        """Whether the next token counts as reasoning."""
        ...

    @property
    def constrained(self) -> bool:
        """Whether the constraint (if the request has one) governs the next token."""
        ...

    @property
    def tool_calls(self) -> int:
        """Calls announced so far; more than none makes the finish reason `tool_calls`."""
        ...

    @property
    def unparsed_calls(self) -> int:
        """Blocks that began like a tool call and came out as text."""
        ...

    def end_reasoning(self) -> list[int]:
        """Tokens that close open reasoning when its budget is spent; the engine forces them next."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chat request rendered for its model. With images in it, `parts` is `prompt` in pieces, the images in their
    places; else it is empty.

    `stop` are further stop strings that the format needs. `make_splitter(choice)` makes one per choice.
    `reasoning_budget` in tokens, None = unlimited.
    """

    prompt: str
    make_splitter: Callable[[int], Splitter]
    constraint: ConstraintSpec | None = None
    stop: list[str] = field(default_factory=list)
    parts: list[str | bytes] = field(default_factory=list)
    reasoning_budget: int | None = None
