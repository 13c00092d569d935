"""What is kept of a response, and how a conversation goes on from it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cortex.dialects.openai.responses.references import Wanted, wanted
from cortex.dialects.openai.responses.request import parse_responses
from cortex.dialects.openai.responses.stored import StoredResponse, response_of
from cortex.errors import BadRequest
from cortex.wire.inference import InferenceRequest, Text, Thinking
from tests.dialects.harness import CONTEXT
from tests.dialects.scripts import by_name

HI = {"role": "user", "content": "Hi"}
READ = {"type": "function", "name": "read", "description": "Reads.", "parameters": {"type": "object"}}
FILES = {"type": "namespace", "name": "files", "description": "MCP", "tools": [READ]}


def answered(previous: StoredResponse | None = None, **body: Any) -> list[StoredResponse]:
    """What is kept of a request that is answered with the script `reasoning_text`."""
    kept: list[StoredResponse] = []
    encoded = msgspec.json.encode({"model": "demo", "input": "Hi", **body})
    collector = parse_responses(encoded, CONTEXT, previous=previous, keep=kept.append).collector()
    collector.feed(0, by_name("reasoning_text").events)
    collector.finish()
    return kept


def test_a_finished_response_is_kept_with_its_conversation_unless_refused() -> None:
    [kept] = answered(include=["reasoning.encrypted_content"])
    assert [msgspec.json.decode(item)["type"] for item in kept.items] == ["message", "reasoning", "message"]
    assert msgspec.json.decode(kept.body)["status"] == "completed"
    assert answered(store=False) == []


def test_a_conversation_goes_on_from_its_stored_response() -> None:
    [first] = answered(instructions="Once only.")
    body = msgspec.json.encode({"model": "demo", "input": "And?", "previous_response_id": first.id})
    assert wanted(body) == Wanted(first.id, [])
    [parsed] = parse_responses(body, CONTEXT, previous=first).requests
    assert isinstance(parsed, InferenceRequest)
    assert [(message.role, message.parts) for message in parsed.messages] == [
        ("user", [Text("Hi")]),
        ("assistant", [Thinking("Let me think."), Text("Hello, wörld 🙂")]),
        ("user", [Text("And?")]),
    ]


def test_the_third_turn_knows_the_first() -> None:
    [first] = answered()
    [second] = answered(first, previous_response_id=first.id)
    assert second.items[: len(first.items)] == first.items
    assert len(second.items) == 2 * len(first.items)


def ids(kept: StoredResponse) -> list[str]:
    return [msgspec.json.decode(item)["id"] for item in kept.items if b'"id"' in bytes(item)]


def referring(*names: Any, **body: Any) -> bytes:
    items = [HI, *({"type": "item_reference", "id": name} for name in names), HI]
    return msgspec.json.encode({"model": "demo", "input": items, **body})


def test_an_item_reference_stands_for_the_stored_item() -> None:
    """The AI SDK's default provider sends the items of every earlier step so."""
    [kept] = answered()
    body = referring(*ids(kept))
    assert wanted(body) == Wanted(None, ids(kept))
    assert {response_of(name) for name in ids(kept)} == {kept.id}
    [parsed] = parse_responses(body, CONTEXT, referenced=kept.items_with(ids(kept))).requests
    assert isinstance(parsed, InferenceRequest)
    assert parsed.messages[1].parts == [Thinking("Let me think."), Text("Hello, wörld 🙂")]


def test_what_is_kept_holds_the_items_and_no_references() -> None:
    """So a reference is found in the latest response, whose conversation it is part of."""
    [first] = answered()
    second: list[StoredResponse] = []
    collector = parse_responses(
        referring(*ids(first)), CONTEXT, referenced=first.items_with(ids(first)), keep=second.append
    ).collector()
    collector.feed(0, by_name("plain").events)
    collector.finish()
    assert set(second[0].items_with(ids(first))) == set(ids(first))


def test_a_reference_may_leave_its_type_out() -> None:
    body = msgspec.json.encode({"model": "demo", "input": [{"id": "msg_1"}, HI]})
    assert wanted(body).items == ["msg_1"]


@pytest.mark.parametrize("name", ["msg_1", "", None, 7])
def test_an_unknown_item_is_named(name: Any) -> None:
    body = referring(name)
    assert len(wanted(body).items) == 1
    with pytest.raises(BadRequest, match=f"item {name if isinstance(name, str) else ''!r} is not stored"):
        parse_responses(body, CONTEXT)


def test_what_is_kept_does_not_hold_on_to_the_request_body() -> None:
    padding = "x" * 100_000
    [kept] = answered(input=[HI], metadata={"padding": padding})
    assert len(bytes(kept.items[0])) < 100


def test_a_failed_response_is_not_kept() -> None:
    kept: list[StoredResponse] = []
    renderer = parse_responses(b'{"model":"demo","input":"Hi","stream":true}', CONTEXT, keep=kept.append).renderer()
    script = by_name("error_mid_stream")
    assert script.failure is not None
    renderer.feed(0, script.events[:-1])
    renderer.fail(script.failure.to_error())
    assert kept == []


def test_the_response_echoes_its_request() -> None:
    collector = parse_responses(
        msgspec.json.encode(
            {
                "model": "alias",
                "input": "Hi",
                "instructions": "I",
                "tools": [FILES, {"type": "web_search"}],
                "tool_choice": {"type": "function", "name": "read"},
                "metadata": {"k": "v"},
                "temperature": 0.5,
                "text": {"format": {"type": "text"}, "verbosity": "low"},
            }
        ),
        CONTEXT,
    ).collector()
    collector.feed(0, by_name("plain").events)
    response = msgspec.json.decode(collector.finish())
    assert response["model"] == "alias"
    assert response["instructions"] == "I"
    assert response["tools"] == [FILES, {"type": "web_search"}]
    assert response["tool_choice"] == {"type": "function", "name": "read"}
    assert response["metadata"] == {"k": "v"}
    assert response["temperature"] == 0.5
    assert response["text"]["verbosity"] == "low"
    assert response["store"] is True
