"""Chat completions bodies become wire requests, field by field."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.dialects.base import CallContext
from cortex.dialects.images import Images
from cortex.dialects.openai.chat.request import ChatBody, parse_chat
from cortex.errors import BadRequest, CortexError, ModelNotFound, UnsupportedValue
from cortex.wire.inference import (
    Grammar,
    Image,
    InferenceRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    Reasoning,
    Request,
    Sampling,
    Text,
    TextFormat,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

USER: dict[str, Any] = {"role": "user", "content": "hi"}
PNG = base64.b64encode(b"\x89PNG data").decode()
WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock"}}


def context(images: Images | None = None) -> CallContext:
    return CallContext("req_1", 1700000000, lambda name: name or "fallback", "alice", images=images or Images())


def parse(body: dict[str, Any] | None = None, **fields: Any) -> InferenceRequest:
    whole = {"model": "demo", "messages": [USER]} | (body or {}) | fields
    (request,) = parse_chat(msgspec.json.encode(whole), context()).requests
    assert isinstance(request, InferenceRequest)
    # What a dialect makes must cross the wire.
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=Request) == request
    return request


def messages(*given_: dict[str, Any]) -> list[Message]:
    return parse(messages=list(given_)).messages


def refusal(**fields: Any) -> CortexError:
    with pytest.raises(BadRequest) as caught:
        parse(**fields)
    return caught.value


# ---- identity


def test_the_plainest_request_says_nothing_else() -> None:
    assert parse() == InferenceRequest(
        id="req_1", model="demo", messages=[Message("user", [Text("hi")])], principal="alice", dialect="openai_chat"
    )


def test_a_missing_model_is_the_resolvers_business() -> None:
    body = msgspec.json.encode({"messages": [USER]})
    assert parse_chat(body, context()).requests[0].model == "fallback"


def test_an_unknown_model_is_not_found() -> None:
    def resolve(name: str) -> str:
        raise ModelNotFound(name)

    with pytest.raises(ModelNotFound):
        parse_chat(msgspec.json.encode({"messages": [USER]}), CallContext("r", 0, resolve))


def test_unknown_fields_are_ignored_everywhere() -> None:
    """claude-code#21612 and its kin: strict readers break clients that send more."""
    extra = {"metadata": {}, "store": True, "service_tier": "auto", "verbosity": "low", "context_management": {"x": 1}}
    user = USER | {"cache_control": {"type": "ephemeral"}}
    tool = WEATHER | {"input_examples": [1], "defer_loading": True}
    assert parse(extra, messages=[user], tools=[tool]).messages == [Message("user", [Text("hi")])]


# ---- messages


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


# ---- tools


def test_tools_are_read_with_their_defaults() -> None:
    full = {
        "type": "function",
        "function": {
            "name": "f",
            "description": "d",
            "parameters": {"type": "object", "properties": {"a": {}}},
            "strict": True,
        },
    }
    assert parse(tools=[full, CLOCK]).tools == [
        Tool("f", "d", {"type": "object", "properties": {"a": {}}}, strict=True),
        Tool("clock", "", {"type": "object", "properties": {}}),
    ]


def test_hosted_tools_are_skipped() -> None:
    assert parse(tools=[{"type": "web_search"}, CLOCK]).tools == [Tool("clock")]


def test_a_custom_tool_is_shown_to_the_model_as_one_string() -> None:
    (tool,) = parse(tools=[{"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}}]).tools
    assert tool.name == "patch"
    assert tool.parameters["required"] == ["input"]


def test_of_two_tools_with_one_name_the_later_counts() -> None:
    later = {"type": "function", "function": {"name": "clock", "description": "new"}}
    assert parse(tools=[CLOCK, later]).tools == [Tool("clock", "new")]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "clock"}}, ToolChoice("required", ["clock"])),
        ({"type": "function", "name": "clock"}, ToolChoice("required", ["clock"])),
        ({"type": "tool", "name": "clock"}, ToolChoice("required", ["clock"])),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "required"}, ToolChoice("required")),
        ({"type": "none"}, ToolChoice("none")),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "clock"}}]},
            },
            ToolChoice("auto", ["clock"]),
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"name": "weather"}]}},
            ToolChoice("required", ["weather"]),
        ),
    ],
)
def test_every_form_of_tool_choice(choice: Any, expected: ToolChoice) -> None:
    assert parse(tools=[WEATHER, CLOCK], tool_choice=choice).tool_choice == expected


def test_a_custom_tools_regex_is_the_pattern_of_its_string() -> None:
    form = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[a-z]+"}}
    (tool,) = parse(tools=[{"type": "custom", "custom": {"name": "word", "format": form}}]).tools
    assert tool.parameters["properties"]["input"]["pattern"] == "^(?:[a-z]+)$"
    assert "this regex grammar:\n[a-z]+" in tool.description


def test_a_custom_tool_can_be_named() -> None:
    custom = {"type": "custom", "custom": {"name": "patch"}}
    assert parse(tools=[custom], tool_choice=custom).tool_choice == ToolChoice("required", ["patch"])


@pytest.mark.parametrize(
    "choice", ["required", "sometimes", {"type": "function", "function": {"name": "nope"}}, {"type": "function"}]
)
def test_a_choice_that_no_tool_satisfies_is_refused(choice: Any) -> None:
    tools = [] if choice == "required" else [CLOCK]
    assert refusal(tools=tools, tool_choice=choice).param == "tool_choice"


@pytest.mark.parametrize("given_", [True, False, None])
def test_parallel_tool_calls_is_passed_on(given_: bool | None) -> None:
    assert parse(parallel_tool_calls=given_).parallel is given_


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("auto", ToolChoice()), ("none", ToolChoice("none")), ({"name": "f"}, ToolChoice("required", ["f"]))],
)
def test_legacy_functions_are_tools_called_one_at_a_time(choice: Any, expected: ToolChoice) -> None:
    request = parse(functions=[{"name": "f", "parameters": {"type": "object"}}], function_call=choice)
    assert request.tools == [Tool("f", "", {"type": "object"})]
    assert request.tool_choice == expected
    assert request.parallel is False


# ---- limits, sampling, formats


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"n_predict": 7, "max_completion_tokens": 6}, 7),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": 10**30}, 2**31 - 1),
    ],
)
def test_the_output_limit_is_read_from_any_of_its_names(fields: dict[str, Any], expected: int | None) -> None:
    assert parse(**fields).max_output == expected


@pytest.mark.parametrize(
    ("stop", "expected"), [(None, []), ("a", ["a"]), (["a", "", "b"], ["a", "b"]), ("", []), ([], [])]
)
def test_stop_strings_lose_their_empty_ones(stop: Any, expected: list[str]) -> None:
    assert parse(stop=stop).stop == expected


def test_every_sampling_extension_is_passed_on_by_its_name() -> None:
    given_ = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "typical_p": 0.9, "top_n_sigma": 1.5,
        "xtc_probability": 0.1, "xtc_threshold": 0.2, "dynatemp_range": 0.3, "dynatemp_exponent": 1.1,
        "dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": 64,
        "dry_sequence_breakers": ["\n"], "repeat_penalty": 1.1, "repeat_last_n": 32, "frequency_penalty": 0.1,
        "presence_penalty": 0.2, "mirostat": 2, "mirostat_tau": 5.0, "mirostat_eta": 0.1, "seed": 7,
        "ignore_eos": True,
    }  # fmt: skip
    assert parse(given_).sampling == Sampling(**given_)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"temperature": -1}, Sampling(temperature=0.0)),
        ({"temperature": 0}, Sampling(temperature=0.0)),
        ({"top_p": 2}, Sampling(top_p=1.0)),
        ({"top_k": -1}, Sampling(top_k=0)),
        ({"seed": -1}, Sampling(seed=-1)),
        ({"seed": 2**70 + 5}, Sampling(seed=5)),
        ({"seed": -7}, Sampling(seed=2**32 - 7)),
        ({"logit_bias": {"15": -100, "2": 1.5}}, Sampling(logit_bias={15: -100.0, 2: 1.5})),
        ({"logit_bias": [[15, False], ["2", 1.5]]}, Sampling(logit_bias={15: -100.0, 2: 1.5})),
    ],
)
def test_numbers_out_of_range_are_moved_to_it(given_: dict[str, Any], expected: Sampling) -> None:
    assert parse(given_).sampling == expected


@pytest.mark.parametrize("token", ["hello", "-1", "1.5", "9" * 30])
def test_a_logit_bias_on_something_else_than_a_token_id_is_refused(token: str) -> None:
    assert refusal(logit_bias={token: 1}).param == "logit_bias"


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, TextFormat()),
        ({"response_format": {"type": "text"}}, TextFormat()),
        ({"response_format": {"type": "json_object"}}, JsonObjectFormat()),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, JsonSchemaFormat(SCHEMA)),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            JsonSchemaFormat(SCHEMA, "x"),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": False}}},
            JsonSchemaFormat(SCHEMA, strict=False),
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, JsonObjectFormat()),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, JsonObjectFormat()),
        ({"json_schema": SCHEMA}, JsonSchemaFormat(SCHEMA)),
        ({"grammar": 'root ::= "a"'}, Grammar("gbnf", 'root ::= "a"')),
    ],
)
def test_output_formats(fields: dict[str, Any], expected: object) -> None:
    assert parse(**fields).format == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"grammar": "root ::= x", "json_schema": SCHEMA},
        {"grammar": "root ::= x", "response_format": {"type": "json_object"}},
        {"grammar": "root ::= x", "tools": [CLOCK]},
    ],
)
def test_a_grammar_stands_alone(fields: dict[str, Any]) -> None:
    assert refusal(**fields).param == "grammar"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Reasoning()),
        ({"reasoning_effort": "none"}, Reasoning("off")),
        ({"reasoning_effort": "high"}, Reasoning("on", "high")),
        ({"reasoning_effort": None}, Reasoning()),
        ({"reasoning_budget_tokens": 100}, Reasoning("on", budget=100)),
        ({"thinking_budget_tokens": 100}, Reasoning("on", budget=100)),
        ({"reasoning_budget_tokens": 0}, Reasoning("off")),
        ({"reasoning_budget_tokens": -1}, Reasoning()),
        ({"chat_template_kwargs": {"enable_thinking": False}}, Reasoning("off")),
        ({"chat_template_kwargs": {"enable_thinking": True}}, Reasoning("on")),
    ],
)
def test_every_way_to_say_how_much_to_think(fields: dict[str, Any], expected: Reasoning) -> None:
    assert parse(**fields).reasoning == expected


def test_enable_thinking_as_a_string_is_refused() -> None:
    """The string "false" is true to a template."""
    error = refusal(chat_template_kwargs={"enable_thinking": "false"})
    assert error.param == "chat_template_kwargs.enable_thinking"


def test_template_kwargs_are_passed_on() -> None:
    assert parse(chat_template_kwargs={"custom": [1]}).template_kwargs == {"custom": [1]}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 4}, 4),
        ({"logprobs": False}, None),
        ({"n_probs": 3}, 3),
        ({"n_probs": 99}, 20),
        ({"n_probs": 0}, None),
    ],
)
def test_logprobs(fields: dict[str, Any], expected: int | None) -> None:
    assert parse(**fields).logprobs == expected


def test_top_logprobs_without_logprobs_is_refused() -> None:
    assert refusal(top_logprobs=2).param == "top_logprobs"
    assert parse(top_logprobs=0, logprobs=False).logprobs is None


def test_n_is_never_silently_one() -> None:
    assert parse(n=3).n == 3
    assert refusal(n=0).param == "n"


def test_cache_hints_are_passed_on() -> None:
    request = parse(prompt_cache_key="thread-1", cache_prompt=False)
    assert (request.cache_key, request.cache_prompt) == ("thread-1", False)


def test_progress_is_reported_only_to_streams_that_ask() -> None:
    assert parse(return_progress=True, stream=True).report_progress
    assert not parse(return_progress=True).report_progress


def test_audio_only_output_is_refused_and_text_beside_it_is_not() -> None:
    assert refusal(modalities=["audio"]).param == "modalities"
    assert parse(modalities=["text", "audio"]).messages


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(ChatBody.__struct_fields__), JSON, max_size=6))
def test_any_json_is_either_a_request_that_can_be_sent_or_a_bad_request(body: dict[str, Any]) -> None:
    try:
        call = parse_chat(msgspec.json.encode({"messages": [USER]} | body), context())
    except BadRequest as error:
        assert error.message  # noqa: PT017 - either outcome is right, neither must be anything else
    else:
        for request in call.requests:
            assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=Request) == request


@given(st.binary(max_size=50))
def test_any_bytes_are_answered(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_chat(body, context())
