"""What is asked of a server: prompts, how many at once, in which order. Pure and the same for every run of a seed."""

from __future__ import annotations

import random
from typing import Literal

from msgspec import Struct

__all__ = [
    "Ask",
    "Kind",
    "Workload",
    "arrival_asks",
    "background_asks",
    "decode_asks",
    "shared_prefix_asks",
    "turn_ask",
    "words",
]

Kind = Literal["decode", "shared-prefix", "multi-turn", "arrivals"]

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
    """One scenario.

    decode         `concurrency` clients ask one thing after another, `requests` in all
    shared-prefix  `requests` prompts with `prompt_words` in common are sent together
    multi-turn     `concurrency` conversations of `turns` turns each, interleaved
    arrivals       `concurrency` streams run while `requests` prompts of `prompt_words` come in one after another

    Lengths are in words, since every model counts tokens differently; the report has the tokens.
    """

    kind: Kind = "decode"
    model: str = ""
    concurrency: int = 4
    requests: int = 16
    prompt_words: int = 24
    output_tokens: int = 128
    turns: int = 4
    temperature: float = 0.8
    ignore_eos: bool = True
    seed: int = 1


class Ask(Struct, frozen=True):
    """One request: the turns so far and how many tokens may follow."""

    messages: list[dict[str, str]]
    output_tokens: int
    group: str = ""


def words(count: int, *seed: object) -> str:
    """`count` words that depend on `seed` alone: different seeds share no prefix."""
    rng = random.Random(repr(seed))  # noqa: S311 - test text, no secret
    return " ".join(rng.choice(_WORDS) for _ in range(count))


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def decode_asks(load: Workload) -> list[Ask]:
    return [
        Ask(user(f"Tell a story about: {words(load.prompt_words, load.seed, i)}"), load.output_tokens)
        for i in range(load.requests)
    ]


def shared_prefix_asks(load: Workload) -> list[Ask]:
    common = words(load.prompt_words, load.seed, "common")
    return [Ask(user(f"{common}\nQuestion {i}: why?"), load.output_tokens) for i in range(load.requests)]


def arrival_asks(load: Workload) -> list[Ask]:
    return [
        Ask(user(words(load.prompt_words, load.seed, "arrival", i)), 8, group="arrival") for i in range(load.requests)
    ]


def background_asks(load: Workload) -> list[Ask]:
    return [
        Ask(user(f"Tell a story about: {words(24, load.seed, 'stream', i)}"), load.output_tokens, group="stream")
        for i in range(load.concurrency)
    ]


def turn_ask(load: Workload, history: list[dict[str, str]], conversation: int, turn: int) -> Ask:
    text = words(load.prompt_words, load.seed, conversation, turn)
    return Ask([*history, *user(text)], load.output_tokens, group=f"turn {turn + 1}")
