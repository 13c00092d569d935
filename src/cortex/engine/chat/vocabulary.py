"""What the chat code needs from a model's tokenizer; `engine.llama.model.Vocab` implements it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Vocabulary", "single_token"]


class Vocabulary(Protocol):
    """A tokenizer by token ids. Pieces are bytes, since a token may end inside a UTF-8 character."""

    @property
    def size(self) -> int: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int | None: ...

    def tokenize(self, text: str, *, special: bool = True, add_special: bool = False) -> list[int]:
        """The ids of `text`. `special`: special tokens spelled in it become their ids. `add_special`: BOS and EOS are
        added as the GGUF asks."""
        ...

    def piece(self, token: int) -> bytes:
        """The token's bytes; a control token's are its spelling."""
        ...

    def is_control(self, token: int) -> bool: ...
    def is_end(self, token: int) -> bool:
        """Whether this token ends generation (EOS, EOT, EOM …)."""
        ...


def single_token(vocabulary: Vocabulary, text: str) -> int | None:
    """The id of the one token that is spelled `text`, or None if `text` takes several tokens."""
    tokens = vocabulary.tokenize(text, special=True)
    if len(tokens) != 1 or vocabulary.piece(tokens[0]).decode("utf-8", "replace") != text:
        return None
    return tokens[0]
