"""A tokenizer for tests: every character is a token, and so is each special string it is made with."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FIRST_SPECIAL = 0x200000


class FakeVocabulary:
    """`control` tokens carry no text of their own; `defined` ones (USER_DEFINED in a GGUF) do."""

    def __init__(self, control: Sequence[str] = (), defined: Sequence[str] = ()) -> None:
        self._special = [*control, *defined]
        self._controls = len(control)
        longest_first = sorted(self._special, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @property
    def size(self) -> int:
        return _FIRST_SPECIAL + len(self._special)

    @property
    def bos(self) -> int | None:
        return None

    @property
    def eos(self) -> int | None:
        return None

    def tokenize(self, text: str, *, special: bool = True, add_special: bool = False) -> list[int]:
        if not special:
            return [ord(char) for char in text]
        tokens: list[int] = []
        at = 0
        for found in self._pattern.finditer(text):
            tokens += [ord(char) for char in text[at : found.start()]]
            tokens.append(_FIRST_SPECIAL + self._special.index(found[0]))
            at = found.end()
        return tokens + [ord(char) for char in text[at:]]

    def piece(self, token: int) -> bytes:
        text = chr(token) if token < _FIRST_SPECIAL else self._special[token - _FIRST_SPECIAL]
        return text.encode()

    def is_control(self, token: int) -> bool:
        return _FIRST_SPECIAL <= token < _FIRST_SPECIAL + self._controls

    def is_end(self, token: int) -> bool:
        return False
