"""Token log-probabilities in OpenAI's two forms: a list of objects (chat, responses) and parallel lists (completions).

Shapes after openai's Python SDK 3.54 (`types/chat/chat_completion_token_logprob.py`, `types/completion_choice.py`).
"""

from __future__ import annotations

from msgspec import Struct

from cortex.wire.events import TokenLogprob

__all__ = ["ChatLogprobs", "CompletionLogprobs", "TokenEntry"]


class TopTokenEntry(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class TokenEntry(Struct, frozen=True):
    """One token. `bytes` are exact; `token` contains U+FFFD where the token ends or begins inside a character."""

    token: str
    logprob: float | None
    bytes: list[int]
    top_logprobs: list[TopTokenEntry]


class ChatLogprobs(Struct, frozen=True):
    content: list[TokenEntry]
    refusal: None = None

    @classmethod
    def of(cls, tokens: list[TokenLogprob]) -> ChatLogprobs:
        return cls([_entry(token) for token in tokens])


class CompletionLogprobs(Struct, frozen=True):
    """`text_offset` counts characters from the start of the choice's text. The first token of an echoed prompt has no
    log-probability: null. A token that isn't whole characters is written as OpenAI writes it, `bytes:\\xf0\\x9f`:
    several alternatives of one place may be such tokens."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]

    @classmethod
    def of(cls, tokens: list[TokenLogprob]) -> CompletionLogprobs:
        tops = [None if token.logprob is None else _tops(token) for token in tokens]
        return cls(
            [_key(token.bytes) for token in tokens],
            [token.logprob for token in tokens],
            tops,
            [token.offset for token in tokens],
        )


def _entry(token: TokenLogprob) -> TokenEntry:
    top = [TopTokenEntry(_text(other.bytes), other.logprob, list(other.bytes)) for other in token.top]
    return TokenEntry(_text(token.bytes), token.logprob, list(token.bytes), top)


def _tops(token: TokenLogprob) -> dict[str, float]:
    """The alternatives by text; of several tokens with one text the likeliest."""
    found: dict[str, float] = {}
    for top in token.top:
        found.setdefault(_key(top.bytes), top.logprob)
    return found


def _key(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
