"""What Anthropic clients send, and the request that comes of it."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from cortex.dialects.anthropic.messages import parse_count_tokens, parse_messages
from cortex.dialects.images import Images
from cortex.dialects.opaque_reasoning import encode_opaque
from cortex.errors import BadRequest, CortexError, UnsupportedValue
from cortex.wire.events import Finished, Started
from cortex.wire.inference import (
    Image,
    InferenceRequest,
    JsonSchemaFormat,
    Message,
    Part,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tests.dialects.harness import CONTEXT

HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
WEATHER = {"name": "get_weather", "description": "Now.", "input_schema": {"type": "object"}}
PNG = base64.b64encode(b"\x89PNG").decode()


def request(**body: Any) -> InferenceRequest:
    encoded = msgspec.json.encode({"model": "demo", "max_tokens": 100, "messages": HI, **body})
    [parsed] = parse_messages(encoded, CONTEXT).requests
    assert isinstance(parsed, InferenceRequest)
    return parsed


def parts(*messages: dict[str, Any]) -> list[tuple[str, Sequence[Part]]]:
    return [(message.role, message.parts) for message in request(messages=list(messages)).messages]


def refused(**body: Any) -> CortexError:
    with pytest.raises(BadRequest) as raised:
        request(**body)
    return raised.value


# ---- the system prompt


def test_a_system_list_is_one_message() -> None:
    system = [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "B"}]
    assert request(system=system).messages[0] == Message("system", [Text("A"), Text("B")])


def test_a_blank_system_prompt_is_none() -> None:
    assert [message.role for message in request(system=" ").messages] == ["user"]


@pytest.mark.parametrize("word", ["a1b2c", "00000", "ffFF0"])
def test_the_changing_word_of_the_billing_header_is_fixed(word: str) -> None:
    """Claude Code changes it with every request; a prompt that begins differently finds nothing in the cache."""
    header = f"x-anthropic-billing-header: cc_version=2.1.77.e19; cc_entrypoint=cli; cch={word};"
    [text, rest] = (
        request(system=[{"type": "text", "text": header}, {"type": "text", "text": "cch=77;"}]).messages[0].parts
    )
    assert text == Text("x-anthropic-billing-header: cc_version=2.1.77.e19; cc_entrypoint=cli; cch=00000;")
    assert rest == Text("cch=77;")


def test_the_billing_header_is_left_alone_on_request() -> None:
    system = "x-anthropic-billing-header: cc_version=2; cch=a1b2c;"
    body = msgspec.json.encode({"model": "demo", "messages": HI, "system": system})
    [parsed] = parse_messages(body, CONTEXT, normalise_billing=False).requests
    assert isinstance(parsed, InferenceRequest)
    assert parsed.messages[0].parts == [Text(system)]


def test_a_system_message_in_the_middle_stays_where_it_is() -> None:
    messages = [*HI, {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Go"}]
    assert [role for role, _ in parts(*messages)] == ["user", "system", "user"]


# ---- content


def test_tool_results_come_before_the_text_beside_them() -> None:
    """Templates want a result right behind its call; Claude Code puts reminders first."""
    content = [
        {"type": "text", "text": "<system-reminder>…"},
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "21°"},
        {
            "type": "tool_result",
            "tool_use_id": "toolu_2",
            "content": [{"type": "text", "text": "22°"}],
            "is_error": True,
        },
    ]
    calls = [
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Łódź"}},
        {"type": "tool_use", "id": "toolu_2", "name": "get_time", "input": {}},
    ]
    assert parts(*HI, {"role": "assistant", "content": calls}, {"role": "user", "content": content})[1:] == [
        ("assistant", [ToolCall("toolu_1", "get_weather", '{"city":"Łódź"}'), ToolCall("toolu_2", "get_time", "{}")]),
        (
            "tool",
            [
                ToolResult("toolu_1", [Text("21°")], "get_weather"),
                ToolResult("toolu_2", [Text("22°")], "get_time", is_error=True),
            ],
        ),
        ("user", [Text("<system-reminder>…")]),
    ]


def test_a_tool_result_without_content_is_a_result() -> None:
    [(role, [result])] = parts({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]})
    assert (role, result) == ("tool", ToolResult("t", []))


def test_images_are_kept_in_messages_and_in_tool_results() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    image = {"type": "image", "source": source}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image, {"type": "text", "text": "a cat"}]}
    assert parts({"role": "user", "content": [image, result]}) == [
        ("tool", [ToolResult("t", [Image(b"\x89PNG"), Text("a cat")])]),
        ("user", [Image(b"\x89PNG")]),
    ]


def test_an_image_url_is_asked_of_the_images_of_the_call() -> None:
    images = Images(allowed=True, fetched={"https://x/cat.png": Image(b"cat")})
    content = [{"type": "image", "source": {"type": "url", "url": "https://x/cat.png"}}]
    body = msgspec.json.encode({"model": "demo", "messages": [{"role": "user", "content": content}]})
    [parsed] = parse_messages(body, dataclasses.replace(CONTEXT, images=images)).requests
    assert isinstance(parsed, InferenceRequest)
    assert parsed.messages[0].parts == [Image(b"cat")]


def test_thinking_is_replayed_with_its_signature_and_redacted_thinking_is_dropped() -> None:
    content = [
        {"type": "thinking", "thinking": "hmm", "signature": ""},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "Hello"},
    ]
    messages = parts(*HI, {"role": "assistant", "content": content}, *HI)
    assert messages[1] == ("assistant", [Thinking("hmm", ""), Text("Hello")])


def test_thinking_that_was_hidden_comes_back_out_of_its_signature() -> None:
    block = {"type": "thinking", "thinking": "", "signature": encode_opaque("secretly")}
    content = [block, {"type": "text", "text": "Hello"}]
    [_, (_, [thinking, _]), _] = parts(*HI, {"role": "assistant", "content": content}, *HI)
    assert isinstance(thinking, Thinking)
    assert thinking.text == "secretly"


def test_a_text_document_is_text_under_its_title() -> None:
    document = {
        "type": "document",
        "title": "Notes",
        "source": {"type": "text", "media_type": "text/plain", "data": "x"},
    }
    assert parts({"role": "user", "content": [document]}) == [("user", [Text("Notes\n\nx")])]


def test_a_pdf_is_refused_with_what_to_do() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": PNG}
    error = refused(messages=[{"role": "user", "content": [{"type": "document", "source": source}]}])
    assert isinstance(error, UnsupportedValue)
    assert "send its text" in error.message


def test_blank_text_and_unknown_blocks_are_dropped() -> None:
    content = [
        {"type": "text", "text": "\n"},
        {"type": "web_search_tool_result", "content": 7},
        {"type": "text", "text": "x"},
    ]
    assert parts({"role": "user", "content": content}) == [("user", [Text("x")])]


def test_a_last_assistant_message_is_continued() -> None:
    assert request(messages=[*HI, {"role": "assistant", "content": "{"}]).continue_final
    assert not request().continue_final


# ---- tools


def test_a_tool_is_taken_without_the_keys_we_do_not_know() -> None:
    extra = {"cache_control": {}, "input_examples": [{}], "defer_loading": True, "eager_input_streaming": True}
    assert request(tools=[{**WEATHER, **extra, "type": "custom", "strict": True}]).tools == [
        Tool("get_weather", "Now.", {"type": "object"}, strict=True)
    ]


def test_tools_that_only_their_vendor_can_run_are_skipped() -> None:
    served = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
    parsed = request(tools=[served], tool_choice={"type": "any"})
    assert parsed.tools == []
    assert parsed.tool_choice == ToolChoice()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "tool", "name": "get_weather"}, ToolChoice("required", ["get_weather"])),
    ],
)
def test_tool_choice(choice: dict[str, Any] | None, expected: ToolChoice) -> None:
    assert request(tools=[WEATHER], tool_choice=choice).tool_choice == expected


def test_parallel_tool_use_can_be_disabled() -> None:
    assert request(tools=[WEATHER], tool_choice={"type": "auto", "disable_parallel_tool_use": True}).parallel is False
    assert request(tools=[WEATHER], tool_choice={"type": "auto"}).parallel is None


# ---- everything else


@pytest.mark.parametrize("model", ["claude-x[1m]", "claude-x[1M]", "claude-x[200k]", "claude-x"])
def test_the_context_suffix_is_no_part_of_the_model(model: str) -> None:
    assert request(model=model).model == "claude-x"


@pytest.mark.parametrize(
    ("thinking", "effort", "expected"),
    [
        (None, None, Reasoning()),
        (None, "high", Reasoning(effort="high")),
        ({"type": "disabled"}, "high", Reasoning("off")),
        ({"type": "between_tools"}, "high", Reasoning("off")),
        ({"type": "adaptive", "display": "summarized"}, "max", Reasoning("auto", "max")),
        ({"type": "newer"}, None, Reasoning("auto")),
        ({"type": "enabled", "budget_tokens": 50}, None, Reasoning("on", None, 50)),
        ({"type": "enabled", "budget_tokens": 5000}, None, Reasoning("on", None, 99)),
    ],
)
def test_thinking(thinking: dict[str, Any] | None, effort: str | None, expected: Reasoning) -> None:
    """A budget beyond `max_tokens` (100 here) would leave no room for an answer."""
    assert request(thinking=thinking, output_config={"effort": effort}).reasoning == expected


@pytest.mark.parametrize("key", ["output_config", "output_format"])
def test_structured_output_by_both_of_its_names(key: str) -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    body = {key: {"format": wanted} if key == "output_config" else wanted}
    assert request(**body).format == JsonSchemaFormat({"type": "object"})


def test_limits_and_sampling_are_clamped_not_refused() -> None:
    parsed = request(max_tokens=0, temperature=-1, top_p=7, top_k=-3, stop_sequences=["", "END"])
    assert parsed.max_output == 0
    assert (parsed.sampling.temperature, parsed.sampling.top_p, parsed.sampling.top_k) == (0.0, 1.0, 0)
    assert parsed.stop == ["END"]


def test_without_max_tokens_the_rest_of_the_context_is_the_limit() -> None:
    assert request(max_tokens=None).max_output is None


@pytest.mark.parametrize("metadata", [None, 7, [], {}, {"user_id": 3}, {"user_id": "session-1"}])
def test_metadata_never_fails_and_names_the_session_for_the_cache(metadata: Any) -> None:
    expected = "session-1" if metadata == {"user_id": "session-1"} else None
    assert request(metadata=metadata).cache_key == expected


def test_fields_we_do_not_know_are_ignored() -> None:
    ahead: dict[str, Any] = {
        "context_management": {"edits": []},
        "mcp_servers": [],
        "diagnostics": {},
        "unheard_of": [1],
    }
    request(
        betas=["x"], container=None, service_tier="auto", speed="fast", inference_geo="eu", cache_control={}, **ahead
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {"messages": [*HI, {"role": "user", "content": [{"type": "text", "text": 3}]}]},
            "messages[1].content[0].text",
        ),
        ({"model": None}, "model"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"tools": [{"name": "x"}]}, "tools"),
        ({"tools": [{"name": "", "input_schema": {}}]}, "tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "fly"}}, "tool_choice"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"output_config": {"format": {"type": "yaml"}}}, "output_config"),
        (
            {"messages": [*HI, {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "x"}]}]},
            "messages",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_place(body: dict[str, Any], param: str) -> None:
    assert refused(**body).param == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model":"\xff"}', b"[" * 100_000])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_messages(body, CONTEXT)


# ---- counting


def test_counting_asks_for_the_very_prompt_that_would_be_answered() -> None:
    body = msgspec.json.encode(
        {"model": "demo", "messages": HI, "system": "S", "tools": [WEATHER], "thinking": {"type": "adaptive"}}
    )
    [counted] = parse_count_tokens(body, CONTEXT).requests
    [answered] = parse_messages(body, CONTEXT).requests
    assert isinstance(counted, InferenceRequest)
    assert counted.count_only
    assert msgspec.structs.replace(counted, count_only=False) == answered


def test_a_count_is_told_as_a_number_alone() -> None:
    body = msgspec.json.encode({"model": "demo", "messages": HI})
    collector = parse_count_tokens(body, CONTEXT).collector()
    collector.feed(0, [Started(42), Finished()])
    assert collector.finish() == b'{"input_tokens":42}'
