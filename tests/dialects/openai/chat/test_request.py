"""Chat completion bodies become wire requests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.dialects.base import CallContext
from cortex.dialects.openai.chat.request import ChatBody, parse_chat
from cortex.errors import BadRequest, ModelNotFound
from cortex.wire.inference import InferenceRequest, Message, Request, Text
from tests.dialects.openai.chat_bodies import USER, WEATHER, context, parse, refusal


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
