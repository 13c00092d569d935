"""A tokenizer of 256 bytes and some special strings, for the splitter and for llguidance alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llguidance import LLTokenizer, TokenizerWrapper

_BYTES = 256


class ByteVocabulary:
    """Token n below 256 is byte n; then the special strings, all control tokens; the last token ends the output."""

    def __init__(self, special: Sequence[str] = ()) -> None:
        self._special = [*special, "<|the end|>"]
        longest_first = sorted(special, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @property
    def size(self) -> int:
        return _BYTES + len(self._special)

    @property
    def bos(self) -> int | None:
        return None

    @property
    def eos(self) -> int:
        return self.size - 1

    def tokenize(self, text: str, *, special: bool = True, add_special: bool = False) -> list[int]:
        tokens: list[int] = []
        at = 0
        for found in self._pattern.finditer(text) if special else ():
            tokens += text[at : found.start()].encode()
            tokens.append(_BYTES + self._special.index(found[0]))
            at = found.end()
        return tokens + list(text[at:].encode())

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < _BYTES else self._special[token - _BYTES].encode()

    def is_control(self, token: int) -> bool:
        return token >= _BYTES

    def is_end(self, token: int) -> bool:
        return token == self.eos

    # ---- what llguidance's TokenizerWrapper asks for

    @property
    def tokens(self) -> list[bytes]:
        return [self.piece(token) for token in range(self.size)]

    @property
    def special_token_ids(self) -> list[int]:
        return list(range(_BYTES, self.size))

    @property
    def bos_token_id(self) -> int | None:
        return None

    @property
    def eos_token_id(self) -> int:
        return self.eos

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())

    def for_llguidance(self) -> LLTokenizer:
        return LLTokenizer(TokenizerWrapper(self))
