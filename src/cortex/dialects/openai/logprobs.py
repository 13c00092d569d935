"""Token log-probabilities in the two shapes OpenAI has: a list of objects for chat, parallel lists for completions."""

from __future__ import annotations

from itertools import accumulate

from msgspec import Struct

from cortex.wire.events import TokenLogprob

__all__ = ["ChatLogprobs", "CompletionLogprobs", "Entry"]


class TopEntry(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class Entry(Struct, frozen=True):
    """`bytes` are exact; `token` shows a replacement mark where a token is part of a character."""

    token: str
    logprob: float | None
    bytes: list[int]
    top_logprobs: list[TopEntry]


class ChatLogprobs(Struct, frozen=True):
    content: list[Entry]
    refusal: None = None

    @classmethod
    def of(cls, tokens: list[TokenLogprob]) -> ChatLogprobs:
        return cls([_entry(token) for token in tokens])


class CompletionLogprobs(Struct, frozen=True):
    """`text_offset` counts characters from the start of the choice's text. An echoed prompt's first token has nulls."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]

    @classmethod
    def of(cls, tokens: list[TokenLogprob], offset: int) -> CompletionLogprobs:
        words = [_text(token.bytes) for token in tokens]
        offsets = list(accumulate(map(len, words[:-1]), initial=offset)) if words else []
        tops = [None if token.logprob is None else _tops(token) for token in tokens]
        return cls(words, [token.logprob for token in tokens], tops, offsets)


def _entry(token: TokenLogprob) -> Entry:
    top = [TopEntry(_text(other.bytes), other.logprob, list(other.bytes)) for other in token.top]
    return Entry(_text(token.bytes), token.logprob, list(token.bytes), top)


def _tops(token: TokenLogprob) -> dict[str, float]:
    return {_text(top.bytes): top.logprob for top in token.top}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
