"""What the chat layer may ask of a model's tokenizer. `engine.llama` has the real one, tests a small fake."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Vocabulary"]


class Vocabulary(Protocol):
    """A tokenizer by ids. Pieces are bytes: a token may hold a part of a character."""

    @property
    def size(self) -> int: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int | None: ...

    def tokenize(self, text: str, *, special: bool = True, add_special: bool = False) -> list[int]:
        """`special`: markers in `text` become their single tokens. `add_special`: BOS/EOS as the GGUF asks."""
        ...

    def piece(self, token: int) -> bytes:
        """The token's bytes, control tokens as their marker text."""
        ...

    def is_control(self, token: int) -> bool: ...
    def is_end(self, token: int) -> bool:
        """Whether this token ends generation (EOS, EOT, EOM …)."""
        ...
