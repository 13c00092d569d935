"""`reasoning_format: "none"`: the reasoning is part of the content, streamed and not."""

from __future__ import annotations

from typing import Any

import msgspec

from cortex.dialects.base import CallContext
from cortex.dialects.openai.chat.request import parse_chat
from cortex.wire.events import ChoiceFinished, Event, Finished, ReasoningDelta, Started, TextDelta

EVENTS: list[Event] = [
    Started(3),
    ReasoningDelta("Hm"),
    ReasoningDelta("m."),
    TextDelta("Yes"),
    TextDelta("."),
    ChoiceFinished("stop"),
    Finished(),
]
WHOLE = "<think>\nHmm.\n</think>\n\nYes."


def call(**fields: Any) -> Any:
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], **fields}
    return parse_chat(msgspec.json.encode(body), CallContext("req_1", 0, lambda name: name))


def answered(events: list[Event], **fields: Any) -> dict[str, Any]:
    collector = call(**fields).collector()
    collector.feed(0, events)
    message: dict[str, Any] = msgspec.json.decode(collector.finish())["choices"][0]["message"]
    return message


def test_reasoning_is_text_between_tags() -> None:
    message = answered(EVENTS, reasoning_format="none")
    assert message["content"] == WHOLE
    assert "reasoning_content" not in message


def test_it_streams_the_same() -> None:
    renderer = call(reasoning_format="none", stream=True).renderer()
    sent = b"".join(renderer.feed(0, [event]) for event in EVENTS)
    chunks = [msgspec.json.decode(line[6:]) for line in sent.split(b"\n\n") if line.startswith(b"data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == WHOLE
    assert not any("reasoning_content" in delta for delta in deltas)


def test_other_formats_keep_it_apart() -> None:
    for form in ("auto", "deepseek", "whatever", None):
        assert answered(EVENTS, reasoning_format=form)["reasoning_content"] == "Hmm."


def test_thinking_that_never_ends_stays_open() -> None:
    events: list[Event] = [ReasoningDelta("Hm"), ChoiceFinished("length"), Finished()]
    assert answered(events, reasoning_format="none")["content"] == "<think>\nHm"
