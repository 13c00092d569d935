"""Chat messages become wire messages."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cortex.dialects.images import Images
from cortex.dialects.openai.chat.request import parse_chat
from cortex.errors import UnsupportedValue
from cortex.wire.inference import Image, InferenceRequest, Message, Text, Thinking, ToolCall, ToolResult
from tests.dialects.openai.chat_bodies import PNG, USER, context, messages, parse, refusal


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_roles_are_kept(role: str) -> None:
    assert messages({"role": role, "content": "x"}, USER)[0] == Message(role, [Text("x")])  # type: ignore[arg-type]


def test_content_may_be_a_list_of_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": ""}, {"type": "input_text", "text": "b"}, "c"]
    assert messages({"role": "user", "content": parts})[0].parts == [Text("a"), Text("b"), Text("c")]


def test_an_image_may_be_a_data_uri() -> None:
    url = f"data:image/png;base64,{PNG}"
    for given_ in ({"url": url, "detail": "high"}, url):
        content = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": given_}]
        assert messages({"role": "user", "content": content})[0].parts == [
            Text("look"),
            Image(b"\x89PNG data", "image/png"),
        ]


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,@@@", "data:text/plain;base64,aGk=", "data:image/png,raw", "file:///etc/passwd", ""]
)
def test_a_broken_image_url_is_refused_with_its_place(url: str) -> None:
    error = refusal(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])
    assert error.param == "messages[0].content[0].image_url"


def test_a_remote_image_is_asked_for_and_then_found() -> None:
    url = "https://pics.example/a.png"
    images = Images(allowed=True)
    body = msgspec.json.encode(
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}
    )
    parse_chat(body, context(images))
    assert images.missing == [url]
    images.missing.clear()
    images.fetched[url] = Image(b"png")
    (request,) = parse_chat(body, context(images)).requests
    assert isinstance(request, InferenceRequest)
    assert request.messages[0].parts == [Image(b"png")]
    assert images.missing == []


@pytest.mark.parametrize("part", [{"type": "input_audio", "input_audio": {}}, {"type": "file", "file": {}}])
def test_content_that_cannot_be_understood_is_refused(part: dict[str, Any]) -> None:
    assert isinstance(refusal(messages=[{"role": "user", "content": [part]}]), UnsupportedValue)


def test_a_whole_tool_conversation_is_kept_in_order() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    read = messages(
        USER,
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "assistant", "content": "It rains."},
        USER,
    )
    assert read[1].parts == [Thinking("hm"), ToolCall("call_1", "weather", '{"city":"Oslo"}')]
    assert read[2] == Message("tool", [ToolResult("call_1", [Text("rain")], name="weather")])
    assert read[3].parts == [Text("It rains.")]


def test_a_tool_result_may_be_a_list_with_an_image() -> None:
    """Zed sends tool results as lists when they hold images."""
    content = [
        {"type": "text", "text": "screenshot"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    (result,) = messages(USER, {"role": "tool", "tool_call_id": "c", "content": content})[1].parts
    assert isinstance(result, ToolResult)
    assert result.parts == [Text("screenshot"), Image(b"\x89PNG data", "image/png")]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_comes_back_under_either_name(name: str) -> None:
    assert messages(USER, {"role": "assistant", "content": "a", name: "thought"}, USER)[1].parts == [
        Thinking("thought"),
        Text("a"),
    ]


def test_arguments_sent_as_an_object_become_text() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}
    assert messages(USER, {"role": "assistant", "tool_calls": [call]}, USER)[1].parts == [ToolCall("c", "f", '{"a":1}')]


def test_missing_arguments_are_an_empty_object() -> None:
    call = {"id": "c", "function": {"name": "f"}}
    assert messages(USER, {"role": "assistant", "tool_calls": [call]}, USER)[1].parts == [ToolCall("c", "f", "{}")]


def test_a_custom_call_comes_back_wrapped_as_the_model_wrote_it() -> None:
    call = {"id": "c", "type": "custom", "custom": {"name": "patch", "input": 'say "hi"'}}
    assert messages(USER, {"role": "assistant", "tool_calls": [call]}, USER)[1].parts == [
        ToolCall("c", "patch", '{"input":"say \\"hi\\""}')
    ]


def test_legacy_function_messages_are_paired() -> None:
    read = messages(
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "done"},
    )
    (call,), (result,) = read[1].parts, read[2].parts
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert call.id == result.call_id
    assert (call.name, result.name, result.parts) == ("f", "f", [Text("done")])


def test_a_refusal_in_the_history_is_text() -> None:
    assert messages(USER, {"role": "assistant", "refusal": "no"}, USER)[1].parts == [Text("no")]


def test_a_last_assistant_message_is_continued() -> None:
    prefill = [USER, {"role": "assistant", "content": "Sure, "}]
    assert parse(messages=prefill).continue_final
    assert not parse(messages=prefill, continue_final_message=False).continue_final
    assert not parse().continue_final


def test_a_last_message_that_calls_tools_is_complete() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    assert not parse(messages=[USER, call]).continue_final


def test_somebody_elses_message_cannot_be_continued() -> None:
    assert refusal(continue_final_message=True).param == "messages"


def test_no_messages_is_a_bad_request() -> None:
    assert refusal(messages=[]).param == "messages"
