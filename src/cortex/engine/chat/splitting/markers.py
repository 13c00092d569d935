"""Markers by token id: special tokens travel through the splitter as one private character each.

Decoded UTF-8 never holds a surrogate code point, so each marker that is one token of the vocabulary gets one. A
parser then looks for plain substrings, and a text that merely spells the marker can't be taken for it. Markers that
the vocabulary has no token for stay themselves and match by text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from cortex.engine.chat.formats.base import ReasoningFormat, ToolFormat, atoms_in, single_token
from cortex.engine.chat.vocabulary import Vocabulary

__all__ = ["MarkerTable", "held_back"]

_FIRST_SURROGATE = 0xD800
_LAST_SURROGATE = 0xDFFF
_SURROGATES = re.compile("[\ud800-\udfff]")


class MarkerTable:
    """A model's markers and their characters. Built once per model; `encode` and `decode` are inverse."""

    def __init__(
        self, vocabulary: Vocabulary, reasoning: ReasoningFormat | None = None, tool_format: ToolFormat | None = None
    ) -> None:
        self._vocabulary = vocabulary
        self._char_of: dict[str, str] = {}
        self._char_by_id: dict[int, str] = {}
        self._text_of: dict[str, str] = {}
        self._control: set[str] = set()
        self._encoded: dict[str, str] = {}
        for atom in _atoms(vocabulary, reasoning, tool_format):
            self._add(atom)
        longest_first = sorted(self._char_of, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def _add(self, atom: str) -> None:
        token = single_token(self._vocabulary, atom)
        if token is None or atom in self._char_of:
            return
        char = chr(_FIRST_SURROGATE + len(self._char_of))
        assert ord(char) <= _LAST_SURROGATE
        self._char_of[atom] = self._char_by_id[token] = char
        self._text_of[char] = atom
        if self._vocabulary.is_control(token):
            self._control.add(char)

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    def is_token(self, marker: str) -> bool:
        """Whether `marker` is a single token of this vocabulary."""
        return marker in self._char_of

    def encode(self, text: str) -> str:
        """`text` with its markers as they arrive from the model."""
        if (known := self._encoded.get(text)) is None:
            known = self._encoded[text] = self._pattern.sub(lambda found: self._char_of[found[0]], text)
        return known

    def pieces(self, text: str) -> list[str]:
        """`text` cut at its markers that are tokens; concatenated they make `text` again."""
        pieces, at = list[str](), 0
        for found in self._pattern.finditer(text):
            pieces += [text[at : found.start()], found[0]]
            at = found.end()
        return [piece for piece in [*pieces, text[at:]] if piece]

    def unit(self, token: int, text: str) -> str:
        """What a sampled token adds to the stream. Control tokens that no format knows vanish."""
        char = self._char_by_id.get(token)
        if char is None:
            return "" if self._vocabulary.is_control(token) else text
        return text.removesuffix(self._text_of[char]) + char

    def decode(self, text: str, *, control: bool = True) -> str:
        """Markers back as their text; `control=False` leaves out those that are control tokens."""
        if text.isascii():
            return text
        return _SURROGATES.sub(lambda found: self._plain(found[0], control), text)

    def decode_json(self, text: str) -> str:
        """Like `decode`, for markers that were written inside a JSON string."""
        if text.isascii():
            return text
        return _SURROGATES.sub(lambda found: json.dumps(self._plain(found[0], True))[1:-1], text)

    def _plain(self, char: str, control: bool) -> str:
        return "" if char in self._control and not control else self._text_of[char]


def held_back(text: str, markers: Iterable[str]) -> int:
    """The length of the longest end of `text` that some marker begins with but doesn't end in (0 = none)."""
    longest = 0
    for marker in markers:
        for size in range(min(len(marker) - 1, len(text)), longest, -1):
            if text.endswith(marker[:size]):
                longest = size
                break
    return longest


def _atoms(vocabulary: Vocabulary, reasoning: ReasoningFormat | None, tool_format: ToolFormat | None) -> list[str]:
    atoms: list[str] = []
    if reasoning is not None:
        atoms += _reasoning_atoms(vocabulary, reasoning)
    if tool_format is not None:
        atoms += tool_format.atoms
        atoms += [atom for pair in tool_format.wrappers for atom in atoms_in(*pair)]
    return atoms


def _reasoning_atoms(vocabulary: Vocabulary, reasoning: ReasoningFormat) -> list[str]:
    """A pair is matched by id only if both ends are tokens: a model that spells one end spells both."""
    atoms = [atom for pair in reasoning.wrappers for atom in atoms_in(*pair)] + atoms_in(
        reasoning.next, reasoning.answer
    )
    ends = [atoms_in(marker) or [marker] for marker in (reasoning.open, reasoning.close)]
    if all(any(single_token(vocabulary, atom) is not None for atom in end) for end in ends):
        atoms += [atom for end in ends for atom in end]
    return atoms
