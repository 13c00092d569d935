"""The requests of a workload: their prompts, how many run at once, in which order. Pure; a seed determines them."""

from __future__ import annotations

import random
from typing import Literal

from msgspec import Struct

__all__ = [
    "ChatRequest",
    "Workload",
    "WorkloadKind",
    "arrival_requests",
    "background_requests",
    "decode_requests",
    "shared_prefix_requests",
    "turn_request",
    "words",
]

WorkloadKind = Literal["decode", "shared-prefix", "multi-turn", "arrivals"]

_WORDS = (
    "river",
    "stone",
    "window",
    "morning",
    "letter",
    "garden",
    "silver",
    "engine",
    "winter",
    "candle",
    "market",
    "bridge",
    "shadow",
    "paper",
    "music",
    "yellow",
    "harbour",
    "kitchen",
    "doctor",
    "summer",
    "forest",
    "button",
    "mirror",
    "planet",
    "ticket",
    "corner",
    "blanket",
    "basket",
    "captain",
    "dinner",
    "island",
)


class Workload(Struct, frozen=True, kw_only=True):
    """What to send.

    decode         `concurrency` clients send one request after another, `requests` in all
    shared-prefix  `requests` prompts with `prompt_words` in common are sent at once
    multi-turn     `concurrency` conversations of `turns` turns each run at once
    arrivals       `concurrency` streams run while `requests` prompts of `prompt_words` are sent one after another

    Prompt lengths are in words, since every tokenizer counts differently; the report has the tokens.
    """

    kind: WorkloadKind = "decode"
    model: str = ""
    concurrency: int = 4
    requests: int = 16
    prompt_words: int = 24
    output_tokens: int = 128
    turns: int = 4
    temperature: float = 0.8
    ignore_eos: bool = True
    seed: int = 1


class ChatRequest(Struct, frozen=True):
    """One request: its messages, the most tokens to generate, and the group it is reported under."""

    messages: list[dict[str, str]]
    output_tokens: int
    group: str = ""


def words(count: int, *seed: object) -> str:
    """`count` random words that depend on `seed` alone; different seeds share no prefix."""
    rng = random.Random(repr(seed))  # noqa: S311 - test text, no secret
    return " ".join(rng.choice(_WORDS) for _ in range(count))


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def decode_requests(workload: Workload) -> list[ChatRequest]:
    """Prompts without a common prefix, for long answers."""
    return [
        ChatRequest(
            _user(f"Tell a story about: {words(workload.prompt_words, workload.seed, i)}"), workload.output_tokens
        )
        for i in range(workload.requests)
    ]


def shared_prefix_requests(workload: Workload) -> list[ChatRequest]:
    """Prompts that differ only in their last line."""
    common = words(workload.prompt_words, workload.seed, "common")
    return [
        ChatRequest(_user(f"{common}\nQuestion {i}: why?"), workload.output_tokens) for i in range(workload.requests)
    ]


def arrival_requests(workload: Workload) -> list[ChatRequest]:
    """Long prompts with short answers, which disturb the streams of `background_requests`."""
    return [
        ChatRequest(_user(words(workload.prompt_words, workload.seed, "arrival", i)), 8, group="arrival")
        for i in range(workload.requests)
    ]


def background_requests(workload: Workload) -> list[ChatRequest]:
    """Short prompts with long answers, running while `arrival_requests` come in."""
    return [
        ChatRequest(
            _user(f"Tell a story about: {words(24, workload.seed, 'stream', i)}"),
            workload.output_tokens,
            group="stream",
        )
        for i in range(workload.concurrency)
    ]


def turn_request(workload: Workload, history: list[dict[str, str]], conversation: int, turn: int) -> ChatRequest:
    """Turn `turn` (from 0) of a conversation whose earlier messages are `history`; grouped by turn."""
    text = words(workload.prompt_words, workload.seed, conversation, turn)
    return ChatRequest([*history, *_user(text)], workload.output_tokens, group=f"turn {turn + 1}")
