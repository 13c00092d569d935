"""What the chat code gives the engine: a rendered request, its grammar, and a splitter for its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from cortex.wire.events import ReasoningDelta, TextDelta, ToolCallArguments, ToolCallEnd, ToolCallStart

__all__ = ["Constraint", "ConstraintSpec", "Delta", "Prepared", "Splitter"]

Delta = TextDelta | ReasoningDelta | ToolCallStart | ToolCallArguments | ToolCallEnd


@dataclass(frozen=True, slots=True)
class ConstraintSpec:
    """A grammar for the output, in llguidance's Lark dialect, and when it applies.

    `now`: from the first token. `after_reasoning`: from the first token that isn't reasoning. `on_tool_marker`: from
    the token after a tool-call trigger to the block's end, anew for each block.
    """

    lark: str
    start: Literal["now", "after_reasoning", "on_tool_marker"] = "now"


class Constraint(Protocol):
    """A compiled grammar at one sequence's position. One thread at a time may call it."""

    def prepare(self) -> None:
        """Compute the mask for the next token, if that isn't done yet, so that `apply` only copies it.

        May run in another thread while the batch decodes; nothing else here may be called until it returns.
        """
        ...

    def apply(self, logits: object) -> None:
        """Set the logits of forbidden tokens to -inf, in place. `logits`: numpy float32, shape (vocabulary size,)."""
        ...

    def accept(self, token: int) -> None:
        """Advance by the sampled token. Raises InternalError if the grammar forbids it."""
        ...

    def is_complete(self) -> bool:
        """Whether no token may follow: the sequence ends here."""
        ...

    def reset(self) -> None:
        """Return to the start of the grammar (for the next tool-call block)."""
        ...


class Splitter(Protocol):
    """Splits one choice's tokens into deltas; `wire.events` lists the invariants of their order.

    The engine feeds every sampled token except the end token, with the whole characters that it completed ("" if it
    ends inside one). `finish` flushes what is held back; `cut`: a length limit ended the output. Deltas carry `choice`.
    """

    def feed(self, token: int, text: str) -> Sequence[Delta]: ...
    def finish(self, *, cut: bool) -> Sequence[Delta]: ...

    @property
    def in_reasoning(self) -> bool:
        """Whether the next token counts as reasoning."""
        ...

    @property
    def constrained(self) -> bool:
        """Whether the constraint (if the request has one) applies to the next token."""
        ...

    @property
    def unparsed_calls(self) -> int:
        """Blocks that began with a tool-call trigger and were emitted as text."""
        ...

    def end_reasoning(self) -> list[int]:
        """Tokens that close open reasoning when its budget is spent; the engine forces them next. Empty if none is
        open."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chat request rendered for its model.

    `make_splitter(choice)` makes one splitter per choice. `stop` are further stop strings that the format needs.
    `parts` is empty for a prompt that is tokenised as a whole; else it is `prompt` in pieces to be tokenised one by
    one, with each image's bytes in its place. `reasoning_budget` in tokens, None = unlimited.
    """

    prompt: str
    make_splitter: Callable[[int], Splitter]
    constraint: ConstraintSpec | None = None
    stop: list[str] = field(default_factory=list)
    parts: list[str | bytes] = field(default_factory=list)
    reasoning_budget: int | None = None
