"""What clients send back of earlier turns is never refused; the user's newest message may be."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.dialects.anthropic.messages import parse_messages
from cortex.dialects.history import newest_input, object_arguments, omitted
from cortex.dialects.images import Images
from cortex.dialects.openai.chat.request import parse_chat
from cortex.dialects.openai.responses.request import parse_responses
from cortex.errors import BadRequest
from cortex.wire.inference import Image, InferenceRequest, Message, Part, Text, Thinking, ToolCall, ToolResult
from tests.dialects.openai.chat_bodies import context

HI: dict[str, Any] = {"role": "user", "content": "Hi"}
YES: dict[str, Any] = {"role": "assistant", "content": "Yes."}
PNG = base64.b64encode(b"\x89PNG").decode()
URI = f"data:image/png;base64,{PNG}"


def parsed(parse: Callable[..., Any], body: Any, images: Images | None = None) -> list[Message]:
    (request,) = parse(msgspec.json.encode({"model": "demo"} | body), context(images)).requests
    assert isinstance(request, InferenceRequest)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=InferenceRequest) == request
    return request.messages


def parts_of(messages: list[Message], kind: type) -> list[Any]:
    return [part for message in messages for part in message.parts if isinstance(part, kind)]


# ---- each dialect's way to send a call and its result back


def chat(call_id: Any, arguments: Any, result: Any) -> list[Message]:
    call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}
    answer = {"role": "tool", "tool_call_id": call_id, "content": result}
    return parsed(parse_chat, {"messages": [HI, {"role": "assistant", "tool_calls": [call]}, answer]})


def flat_chat(call_id: Any, arguments: Any, result: Any) -> list[Message]:
    call = {"id": call_id, "type": "function", "name": "f", "arguments": arguments}
    answer = {"role": "tool", "tool_call_id": call_id, "content": result}
    return parsed(parse_chat, {"messages": [HI, {"role": "assistant", "tool_calls": [call]}, answer]})


def legacy_chat(_: Any, arguments: Any, result: Any) -> list[Message]:
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": arguments}}
    return parsed(parse_chat, {"messages": [HI, call, {"role": "function", "name": "f", "content": result}]})


def responses(call_id: Any, arguments: Any, result: Any) -> list[Message]:
    call = {"type": "function_call", "call_id": call_id, "name": "f", "arguments": arguments}
    answer = {"type": "function_call_output", "call_id": call_id, "output": result}
    return parsed(parse_responses, {"input": [HI, call, answer]})


def blocks(call_id: Any, arguments: Any, result: Any) -> list[dict[str, Any]]:
    call = {"type": "tool_use", "id": call_id, "name": "f", "input": arguments}
    answer = {"type": "tool_result", "tool_use_id": call_id, "content": result}
    return [HI, {"role": "assistant", "content": [call]}, {"role": "user", "content": [answer]}]


def anthropic(call_id: Any, arguments: Any, result: Any) -> list[Message]:
    return parsed(parse_messages, {"messages": blocks(call_id, arguments, result)})


def blocks_in_chat(call_id: Any, arguments: Any, result: Any) -> list[Message]:
    return parsed(parse_chat, {"messages": blocks(call_id, arguments, result)})


SendBack = Callable[[Any, Any, Any], list[Message]]
every_way = pytest.mark.parametrize(
    "send_back", [chat, flat_chat, legacy_chat, responses, anthropic, blocks_in_chat], ids=lambda way: way.__name__
)


# ---- arguments


@every_way
@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"a": 1.10}', '{"a": 1.10}'),
        ({"a": 1}, '{"a":1}'),
        ("", "{}"),
        (" ", "{}"),
        (None, "{}"),
        ("null", "{}"),
        (json.dumps('{"a": 1}'), '{"a":1}'),
        (json.dumps(json.dumps({"a": "é"})), '{"a":"é"}'),
        ('```json\n{"a": 1}\n```', '{"a":1}'),
        ('{"a": "two\nlines"}', '{"a":"two\\nlines"}'),
        ('{"a": "\\ud83d"}', '{"a":"�"}'),
        ('{"path": "x", "text": "cut of', None),
        ("{'a': 'b'}", None),
        ("{a: 1}", None),
        ('{"a": 1} {"a": 2}', None),
        ("[1,2]", None),
        ("7", None),
        ('"text"', None),
        ('{"a": NaN}', None),
        ('{"a": 1e400}', None),
        ("text", None),
        ([1, 2], None),
        (7, None),
        (True, None),
    ],
    ids=str,
)
def test_arguments_that_come_back_are_read_or_wrapped(send_back: SendBack, arguments: Any, read: str | None) -> None:
    [call] = parts_of(send_back("c", arguments, "done"), ToolCall)
    if read is None:
        assert msgspec.json.decode(call.arguments) == {"arguments": arguments}
    else:
        assert msgspec.json.decode(call.arguments) == msgspec.json.decode(read)


def test_the_text_of_an_object_is_kept_to_the_letter() -> None:
    text = '{ "a" : 1.10, "b": "\\u00e9" }'
    for send_back in (chat, flat_chat, legacy_chat, responses):
        [call] = parts_of(send_back("c", text, "done"), ToolCall)
        assert call.arguments == text


@given(st.text(max_size=40) | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_whatever_comes_back_is_the_text_of_an_object(arguments: Any) -> None:
    assert isinstance(msgspec.json.decode(object_arguments(arguments)), dict)


# ---- results and ids


@every_way
@pytest.mark.parametrize(
    ("result", "read"),
    [
        ("21", ["21"]),
        (21, ["21"]),
        (2.5, ["2.5"]),
        (True, ["true"]),
        (None, []),
        ({"temp": 21, "città": "Øslo"}, ['{"temp":21,"città":"Øslo"}']),
        ([1, 2], ["[1,2]"]),
        ([{"a": 1}, {"a": 2}], ['[{"a":1},{"a":2}]']),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], ["a", "b"]),
    ],
    ids=str,
)
def test_a_tools_result_may_be_anything(send_back: SendBack, result: Any, read: list[str]) -> None:
    [answer] = parts_of(send_back("c", "{}", result), ToolResult)
    assert answer.parts == [Text(text) for text in read]
    assert answer.name == "f"


@pytest.mark.parametrize("send_back", [chat, flat_chat, responses, anthropic, blocks_in_chat])
@pytest.mark.parametrize("call_id", [0, 7, "7"])
def test_a_calls_id_may_be_a_number(send_back: SendBack, call_id: Any) -> None:
    messages = send_back(call_id, "{}", "done")
    [call], [result] = parts_of(messages, ToolCall), parts_of(messages, ToolResult)
    assert call.id == result.call_id == str(call_id)
    assert result.name == "f"


# ---- parts that can't be read

PDF = f"data:application/pdf;base64,{PNG}"
UNREADABLE: list[tuple[Callable[..., Any], str, dict[str, Any], str]] = [
    (parse_chat, "messages", {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, omitted("audio")),
    (parse_chat, "messages", {"type": "file", "file": {"file_id": "file-1"}}, omitted("file")),
    (
        parse_chat,
        "messages",
        {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
        omitted("file", "a.pdf"),
    ),
    (parse_chat, "messages", {"type": "video_url", "video_url": {"url": "x"}}, omitted("video")),
    (parse_chat, "messages", {"type": "image_url", "image_url": {"url": "file:///x"}}, omitted("image")),
    (parse_chat, "messages", {"type": "image_url", "image_url": {"url": "https://x/gone.png"}}, omitted("image")),
    (parse_chat, "messages", {"type": "image_url"}, omitted("image")),
    (parse_responses, "input", {"type": "input_file", "file_data": PDF, "filename": "a.pdf"}, omitted("file", "a.pdf")),
    (parse_responses, "input", {"type": "input_file", "file_id": "file-1"}, omitted("file")),
    (parse_responses, "input", {"type": "input_audio", "input_audio": {}}, omitted("audio")),
    (parse_responses, "input", {"type": "input_image", "image_url": "data:image/png;base64,@"}, omitted("image")),
    (
        parse_messages,
        "messages",
        {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PNG},
        },
        omitted("file", "a.pdf"),
    ),
    (
        parse_messages,
        "messages",
        {"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}},
        omitted("document"),
    ),
    (parse_messages, "messages", {"type": "image", "source": {"type": "file", "file_id": "f"}}, omitted("image")),
    (
        parse_messages,
        "messages",
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "@"}},
        omitted("image"),
    ),
]
every_unreadable = pytest.mark.parametrize(("parse", "key", "part", "shown"), UNREADABLE)


@every_unreadable
def test_an_unreadable_part_of_the_history_is_a_placeholder(
    parse: Callable[..., Any], key: str, part: dict[str, Any], shown: str
) -> None:
    for between in ([YES, HI], [HI]):  # answered, or written again after a refusal
        messages = parsed(parse, {key: [{"role": "user", "content": [part]}, *between]})
        assert messages[0].parts == [Text(shown)]


@every_unreadable
def test_the_same_part_is_refused_as_new_input(
    parse: Callable[..., Any], key: str, part: dict[str, Any], shown: str
) -> None:
    assert shown
    for before in ([], [HI, YES]):
        with pytest.raises(BadRequest):
            parsed(parse, {key: [*before, {"role": "user", "content": [part]}]})


def test_a_result_with_an_unreadable_part_is_never_refused() -> None:
    """A client can't take its tool's result back: Claude Code reads PDFs so."""
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PNG}}
    audio = {"type": "input_audio", "input_audio": {}}
    for send_back, part, shown in [
        (anthropic, pdf, "file"),
        (blocks_in_chat, pdf, "file"),
        (chat, audio, "audio"),
        (responses, audio, "audio"),
    ]:
        [result] = parts_of(send_back("c", "{}", [part]), ToolResult)
        assert result.parts == [Text(omitted(shown))]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": None},
        {"type": "thinking", "thinking": 7},
        {"type": "tool_use", "name": "f"},
        {"type": "image"},
        {"type": "document", "source": 7},
    ],
    ids=str,
)
@pytest.mark.parametrize("parse", [parse_messages, parse_chat])
def test_a_malformed_block_of_the_history_is_a_placeholder(parse: Callable[..., Any], block: dict[str, Any]) -> None:
    answer = {"role": "assistant", "content": [block, {"type": "text", "text": "x"}]}
    messages = parsed(parse, {"messages": [HI, answer, HI]})
    assert [part.text for part in parts_of(messages[1:2], Text)][-1] == "x"


@pytest.mark.parametrize(
    ("item", "thought"),
    [
        ({"summary": "a"}, ["a"]),
        ({"summary": ["a", {"text": "b"}]}, ["a\n\nb"]),
        ({"summary": [{"type": "summary_text"}], "content": 7, "encrypted_content": {}}, []),
    ],
    ids=str,
)
def test_reasoning_of_any_shape_is_no_error(item: dict[str, Any], thought: list[str]) -> None:
    messages = parsed(parse_responses, {"input": [HI, {"type": "reasoning", **item}, YES, HI]})
    assert [part.text for part in parts_of(messages, Thinking)] == thought


@pytest.mark.parametrize("text", ["x", 7, {"a": 1}, None])
def test_a_custom_calls_input_may_be_anything(text: Any) -> None:
    call = {"id": "c", "type": "custom", "custom": {"name": "w", "input": text}}
    item = {"type": "custom_tool_call", "call_id": "c", "name": "w", "input": text}
    read = {"input": "" if text is None else text if isinstance(text, str) else msgspec.json.encode(text).decode()}
    for messages in (
        parsed(parse_chat, {"messages": [HI, {"role": "assistant", "tool_calls": [call]}, HI]}),
        parsed(parse_responses, {"input": [HI, item, HI]}),
    ):
        [made] = parts_of(messages, ToolCall)
        assert msgspec.json.decode(made.arguments) == read


IMAGES: list[tuple[Callable[..., Any], str, dict[str, Any]]] = [
    (parse_chat, "messages", {"type": "image_url", "image_url": {"url": URI}}),
    (parse_responses, "input", {"type": "input_image", "image_url": URI}),
    (
        parse_messages,
        "messages",
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    ),
]


@pytest.mark.parametrize(("parse", "key", "part"), IMAGES)
def test_an_image_for_a_blind_model_is_a_placeholder_in_the_history_alone(
    parse: Callable[..., Any], key: str, part: dict[str, Any]
) -> None:
    seen = {"role": "user", "content": [part]}
    assert parsed(parse, {key: [seen, YES, HI]})[0].parts == [Image(b"\x89PNG")]
    assert parsed(parse, {key: [seen, YES, HI]}, Images(blind="demo"))[0].parts == [Text(omitted("image"))]
    with pytest.raises(BadRequest, match="takes no images"):
        parsed(parse, {key: [HI, YES, seen]}, Images(blind="demo"))


@pytest.mark.parametrize(
    ("data", "read"),
    [(b"RIFF....WEBP", None), (b"<svg/>", None), (b"\x89PNG\r\n", 1), (b"\xff\xd8\xff", 1), (b"GIF89a", 1), (b"BM", 1)],
)
def test_an_image_in_a_result_that_the_engine_would_refuse_is_a_placeholder(data: bytes, read: int | None) -> None:
    """Claude Code reads image files of any format so; the same image as new input is the engine's to refuse."""
    coded = base64.b64encode(data).decode()
    source = {"type": "base64", "media_type": "image/webp", "data": coded}
    expected = Image(data, "image/webp") if read else Text(omitted("image"))
    [result] = parts_of(anthropic("c", "{}", [{"type": "image", "source": source}]), ToolResult)
    assert result.parts == [expected]
    part = {"type": "image_url", "image_url": {"url": f"data:image/webp;base64,{coded}"}}
    [result] = parts_of(chat("c", "{}", [part]), ToolResult)
    assert result.parts == [expected]
    new = parsed(parse_chat, {"messages": [{"role": "user", "content": [part]}]})
    assert new[0].parts == [Image(data, "image/webp")]


@pytest.mark.parametrize(
    ("part", "read"),
    [
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, [Thinking("hm")]),
        ({"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}, "h\nm"),
        ({"type": "reasoning", "text": "hm"}, [Thinking("hm")]),
        ({"type": "redacted_thinking", "data": "x"}, []),
    ],
)
def test_thinking_parts_in_chat_are_thinking(part: dict[str, Any], read: list[Part] | str) -> None:
    answer = {"role": "assistant", "content": [part, {"type": "text", "text": "Yes."}]}
    expected = [Thinking(read)] if isinstance(read, str) else read
    assert parsed(parse_chat, {"messages": [HI, answer, HI]})[1].parts == [*expected, Text("Yes.")]


@pytest.mark.parametrize(
    ("parse", "key", "part"),
    [
        (parse_chat, "messages", {"type": "file", "file": {"file_data": "data:text/plain;base64,eA=="}}),
        (parse_responses, "input", {"type": "input_file", "file_data": "data:text/plain;base64,eA=="}),
        (
            parse_messages,
            "messages",
            {"type": "document", "source": {"type": "base64", "media_type": "text/plain", "data": "eA=="}},
        ),
    ],
)
def test_a_text_file_is_read_in_every_api(parse: Callable[..., Any], key: str, part: dict[str, Any]) -> None:
    assert parsed(parse, {key: [{"role": "user", "content": [part]}]})[0].parts == [Text("x")]


@pytest.mark.parametrize(
    ("roles", "index"),
    [
        ([], -1),
        (["user"], 0),
        (["system", "user"], 1),
        (["user", "user"], 1),
        (["user", "assistant", "user"], 2),
        (["user", "assistant", "tool"], -1),
        (["user", "developer"], 0),
        (["user", "assistant"], 0),
        (["user", "assistant", "assistant"], -1),
    ],
)
def test_the_newest_input_is_the_users_message_that_nobody_has_answered(roles: list[str], index: int) -> None:
    assert newest_input(roles) == index
