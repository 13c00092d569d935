"""Requests with a common beginning have leading hashes in common."""

from __future__ import annotations

from cortex.wire.inference import Image, InferenceRequest, Message, Text, ToolResult
from cortex.wire.prefix import prefix_hashes

LONG = "a long story " * 400


def hashes(*messages: Message) -> list[int]:
    return prefix_hashes(InferenceRequest("r", "m", messages=list(messages)))


def test_a_conversations_hashes_begin_with_those_of_its_earlier_turns() -> None:
    first = Message("user", [Text(LONG)])
    short, long = hashes(first), hashes(first, Message("assistant", [Text(LONG)]))
    assert long[: len(short)] == short
    assert len(long) > len(short) > 3


def test_an_image_is_about_a_block_however_large_its_file() -> None:
    text = Message("user", [Text(LONG)])
    small, large = (hashes(Message("user", [Image(b"1" * size)]), text) for size in (10, 500_000))
    assert len(small) == len(large) == len(hashes(text)) + 1


def test_after_a_different_image_every_hash_differs() -> None:
    def asked(image: bytes) -> list[int]:
        return hashes(Message("user", [Text(LONG), Image(image)]), Message("user", [Text(LONG)]))

    one, other = asked(b"1" * 5000), asked(b"2" * 5000)
    common = next(place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    assert common == len(hashes(Message("user", [Text(LONG)])))
    assert not set(one[common:]) & set(other)
    assert asked(b"1" * 5000) == one


def test_an_image_in_a_tools_result_counts_alike() -> None:
    def asked(image: bytes) -> list[int]:
        return hashes(Message("tool", [ToolResult("c", [Text(LONG), Image(image)])]))

    assert asked(b"1" * 99_000)[-1] != asked(b"2" * 99_000)[-1]
    assert len(asked(b"1" * 99_000)) == len(asked(b"1"))
