"""Whatever a client sends is a request that can cross to a worker, or the client's mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.dialects.anthropic.body import MessagesBody
from cortex.dialects.anthropic.messages import parse_count_tokens, parse_messages
from cortex.dialects.base import Call, CallContext
from cortex.dialects.openai.responses.body import ResponsesBody
from cortex.dialects.openai.responses.request import parse_responses
from cortex.errors import BadRequest
from cortex.wire.inference import Request
from tests.dialects.harness import CONTEXT

TAGS = [
    "text",
    "image",
    "tool_use",
    "tool_result",
    "thinking",
    "message",
    "reasoning",
    "custom",
    "namespace",
    "function",
]
ITEMS = [
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "user",
    "assistant",
    "system",
    "auto",
    "any",
    "tool",
]
KEYS = ["type", "role", "content", "id", "name", "input", "output", "call_id", "arguments", "source", "data", "summary"]
MORE = ["base64", "url", "json_schema", "schema", "format", "effort", "enabled", "disabled", "tools", "tool_use_id"]
WORDS = st.sampled_from([*TAGS, *ITEMS, *KEYS, *MORE])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
HI: dict[str, Any] = {"role": "user", "content": "Hi"}


def check(parse: Callable[[bytes, CallContext], Call], body: object) -> None:
    try:
        call = parse(msgspec.json.encode(body), CONTEXT)
    except BadRequest as error:
        assert error.message  # noqa: PT017 - either outcome is right, neither must be anything else
    else:
        for request in call.requests:
            assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=Request) == request


@pytest.mark.parametrize("parse", [parse_messages, parse_count_tokens])
@given(fields=st.dictionaries(st.sampled_from(MessagesBody.__struct_fields__), JSON, max_size=6))
def test_any_messages_body_is_a_request_or_a_bad_one(parse: Any, fields: dict[str, Any]) -> None:
    check(parse, {"model": "demo", "messages": [HI], **fields})


@given(
    blocks=st.lists(
        st.dictionaries(WORDS, JSON, max_size=5) | st.builds(lambda kind: {"type": kind}, WORDS), max_size=4
    )
)
def test_any_content_blocks_are_a_request_or_a_bad_one(blocks: list[Any]) -> None:
    check(parse_messages, {"model": "demo", "messages": [HI, {"role": "assistant", "content": blocks}, HI]})


@given(fields=st.dictionaries(st.sampled_from(ResponsesBody.__struct_fields__), JSON, max_size=6))
def test_any_responses_body_is_a_request_or_a_bad_one(fields: dict[str, Any]) -> None:
    check(parse_responses, {"model": "demo", "input": "Hi", **fields})


@given(items=st.lists(st.dictionaries(WORDS, JSON, max_size=5), max_size=4), tools=st.lists(JSON, max_size=3))
def test_any_items_and_tools_are_a_request_or_a_bad_one(items: list[Any], tools: list[Any]) -> None:
    check(parse_responses, {"model": "demo", "input": [HI, *items], "tools": tools})


@pytest.mark.parametrize("parse", [parse_messages, parse_count_tokens, parse_responses])
@given(body=st.binary(max_size=50))
def test_any_bytes_are_answered(parse: Any, body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(body, CONTEXT)


@pytest.mark.parametrize("number", [2**31, 2**63, 2**64, 2**100, -(2**64), 1e308])
def test_numbers_beyond_every_width_are_clamped_or_refused(number: float) -> None:
    check(parse_messages, {"model": "demo", "messages": [HI], "max_tokens": number})
    check(parse_messages, {"model": "demo", "messages": [HI], "top_k": number, "temperature": number})
    check(parse_messages, {"model": "demo", "messages": [HI], "thinking": {"type": "enabled", "budget_tokens": number}})
    schema = {"type": "object", "properties": {"n": {"maximum": number}}}
    check(parse_messages, {"model": "demo", "messages": [HI], "tools": [{"name": "f", "input_schema": schema}]})
    check(parse_responses, {"model": "demo", "input": "Hi", "max_output_tokens": number, "top_logprobs": number})
    check(
        parse_responses,
        {"model": "demo", "input": "Hi", "tools": [{"type": "function", "name": "f", "parameters": schema}]},
    )
