"""Markers and special tokens: inside the splitter each special token is one private character.

Decoded UTF-8 never contains a surrogate code point, so each marker that is a single token of the vocabulary is
represented by one of them. Parsers search for plain substrings, and text that only spells a marker never matches one
that is a token. Markers without a token of their own stay as they are and match by text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cortex.engine.chat.vocabulary import Vocabulary, single_token

__all__ = ["MarkerTable", "ReasoningFormat", "ToolMarkers", "is_encoded", "partial_marker_length", "special_tokens_in"]

_FIRST_SURROGATE = 0xD800
_LAST_SURROGATE = 0xDFFF
_SURROGATES = re.compile("[\ud800-\udfff]")
_SPECIAL_TOKEN = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|◁[^▷]+▷")
"""What looks like a special token inside a longer marker ("<|channel>" in "<|channel>thought")."""


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """The markers around a model's reasoning, as its template writes them, without surrounding whitespace.

    They match by token id where both are single tokens of the vocabulary, by text otherwise. `wrappers` are pairs of
    markers around the answer, dropped from the text (`<response>` … `</response>`). `next` must follow `close` before
    anything else may (harmony opens the next message); `answer` is what a plain answer begins with.
    """

    name: str
    open: str
    close: str
    wrappers: tuple[tuple[str, str], ...] = ()
    answer: str = ""
    next: str = ""


class ToolMarkers(Protocol):
    """The markers of a tool-call format.

    `special_tokens`: strings, among them those of triggers, closing markers and separators, that are matched by token
    id where the vocabulary has them as one token. `wrappers`: pairs of markers around plain answers, dropped from the
    text.
    """

    @property
    def special_tokens(self) -> Sequence[str]: ...
    @property
    def wrappers(self) -> Sequence[tuple[str, str]]: ...


class MarkerTable:
    """A model's special tokens and the characters that stand for them. Built once per model, read-only for callers.

    `encode` and `decode` are inverse.
    """

    def __init__(
        self, vocabulary: Vocabulary, reasoning: ReasoningFormat | None = None, tool_format: ToolMarkers | None = None
    ) -> None:
        self._vocabulary = vocabulary
        self._token_of: dict[str, int] = {}
        self._char_of: dict[str, str] = {}
        self._char_by_id: dict[int, str] = {}
        self._text_of: dict[str, str] = {}
        self._control: set[str] = set()
        self._encoded: dict[str, str] = {}
        for text in _special_tokens(vocabulary, reasoning, tool_format):
            self._add(text)
        longest_first = sorted(self._char_of, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def _add(self, text: str) -> None:
        token = single_token(self._vocabulary, text)
        if token is None or text in self._char_of:
            return
        char = chr(_FIRST_SURROGATE + len(self._char_of))
        assert ord(char) <= _LAST_SURROGATE
        self._token_of[text] = token
        self._char_of[text] = self._char_by_id[token] = char
        self._text_of[char] = text
        if self._vocabulary.is_control(token):
            self._control.add(char)

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    @property
    def spellings(self) -> list[str]:
        """The markers that are single tokens of this vocabulary."""
        return list(self._token_of)

    def token_of(self, marker: str) -> int | None:
        """The id of the one token that is `marker`, None for any other text."""
        return self._token_of.get(marker)

    def is_token(self, marker: str) -> bool:
        """Whether `marker` is a single token of this vocabulary."""
        return marker in self._token_of

    def encode(self, text: str) -> str:
        """`text` with its special tokens replaced by their characters, as they arrive from the model."""
        if (known := self._encoded.get(text)) is None:
            known = self._encoded[text] = self._pattern.sub(lambda found: self._char_of[found[0]], text)
        return known

    def pieces(self, text: str) -> list[str]:
        """`text` split into special tokens and the non-empty texts between them; joined they are `text` again."""
        pieces, at = list[str](), 0
        for found in self._pattern.finditer(text):
            pieces += [text[at : found.start()], found[0]]
            at = found.end()
        return [piece for piece in [*pieces, text[at:]] if piece]

    def unit(self, token: int, text: str) -> str:
        """What a sampled token adds to the encoded stream: "" for control tokens that no format uses."""
        char = self._char_by_id.get(token)
        if char is None:
            return "" if self._vocabulary.is_control(token) else text
        return text.removesuffix(self._text_of[char]) + char

    def decode(self, text: str, *, control: bool = True) -> str:
        """`text` with special tokens as they are spelled; `control=False` drops those that are control tokens."""
        if not is_encoded(text):
            return text
        return _SURROGATES.sub(lambda found: self._spelled(found[0], control), text)

    def decode_json(self, text: str) -> str:
        """Like `decode`, for special tokens inside a JSON string: their spelling is escaped."""
        if text.isascii():
            return text
        return _SURROGATES.sub(lambda found: json.dumps(self._spelled(found[0], True))[1:-1], text)

    def _spelled(self, char: str, control: bool) -> str:
        return "" if char in self._control and not control else self._text_of[char]


def special_tokens_in(*texts: str) -> list[str]:
    """What looks like a special token in `texts`."""
    return [found for text in texts for found in _SPECIAL_TOKEN.findall(text)]


def is_encoded(text: str) -> bool:
    """Whether encoded `text` holds a special token."""
    return not text.isascii() and _SURROGATES.search(text) is not None


def partial_marker_length(text: str, markers: Iterable[str]) -> int:
    """The length of the longest suffix of `text` that is a proper prefix of some marker (0 = none)."""
    longest = 0
    for marker in markers:
        for size in range(min(len(marker) - 1, len(text)), longest, -1):
            if text.endswith(marker[:size]):
                longest = size
                break
    return longest


def _special_tokens(
    vocabulary: Vocabulary, reasoning: ReasoningFormat | None, tool_format: ToolMarkers | None
) -> list[str]:
    found: list[str] = []
    if reasoning is not None:
        found += _reasoning_tokens(vocabulary, reasoning)
    if tool_format is not None:
        found += tool_format.special_tokens
        found += [text for pair in tool_format.wrappers for text in special_tokens_in(*pair)]
    return found


def _reasoning_tokens(vocabulary: Vocabulary, reasoning: ReasoningFormat) -> list[str]:
    """The ends of a pair match by id only if both are tokens: a model that spells one end spells both."""
    found = [text for pair in reasoning.wrappers for text in special_tokens_in(*pair)]
    found += special_tokens_in(reasoning.next, reasoning.answer)
    ends = [special_tokens_in(marker) or [marker] for marker in (reasoning.open, reasoning.close)]
    if all(any(single_token(vocabulary, text) is not None for text in end) for end in ends):
        found += [text for end in ends for text in end]
    return found
