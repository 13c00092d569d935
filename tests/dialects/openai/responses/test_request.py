"""Responses bodies become wire requests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cortex.dialects.openai.responses.request import parse_responses
from cortex.wire.inference import (
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    OutputFormat,
    Reasoning,
    Text,
    TextFormat,
)
from tests.dialects.harness import CONTEXT
from tests.dialects.openai.responses.bodies import HI, READ, refused, request


def test_a_string_is_a_user_message_behind_the_instructions() -> None:
    assert request(instructions="Be brief.").messages == [
        Message("system", [Text("Be brief.")]),
        Message("user", [Text("Hi")]),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, TextFormat()),
        ({"verbosity": "low"}, TextFormat()),
        ({"format": {"type": "text"}}, TextFormat()),
        ({"format": {"type": "json_object"}}, JsonObjectFormat()),
        ({"format": {"type": "json_schema", "name": "x"}}, JsonObjectFormat()),
        (
            {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
            JsonSchemaFormat({"type": "object"}, "x", strict=False),
        ),
        (
            {
                "format": {
                    "type": "json_schema",
                    "name": "codex_output_schema",
                    "schema": {"type": "object"},
                    "strict": True,
                }
            },
            JsonSchemaFormat({"type": "object"}, "codex_output_schema"),
        ),
    ],
)
def test_text_format(text: Any, expected: OutputFormat) -> None:
    assert request(text=text).format == expected


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (None, Reasoning()),
        ({"effort": None, "summary": "auto"}, Reasoning()),
        ({"effort": "none"}, Reasoning("off")),
        ({"effort": "xhigh", "summary": "auto"}, Reasoning("on", "xhigh")),
    ],
)
def test_reasoning_effort(reasoning: Any, expected: Reasoning) -> None:
    assert request(reasoning=reasoning).reasoning == expected


def test_nothing_said_of_the_length_means_the_rest_of_the_context() -> None:
    """Codex never says; a small default would be eaten up by reasoning."""
    assert request().max_output is None
    assert request(max_output_tokens=0).max_output == 0


def test_log_probabilities_by_either_way_of_asking() -> None:
    assert request().logprobs is None
    assert request(top_logprobs=99).logprobs == 20
    assert request(include=["message.output_text.logprobs"]).logprobs == 0


def test_the_cache_key_and_parallel_calls_are_passed_on() -> None:
    parsed = request(prompt_cache_key="session", parallel_tool_calls=False)
    assert (parsed.cache_key, parsed.parallel) == ("session", False)


def test_a_missing_model_is_the_default_one() -> None:
    body = msgspec.json.encode({"input": "Hi"})
    [parsed] = parse_responses(body, CONTEXT).requests
    assert parsed.model == "demo"


def test_fields_we_do_not_know_are_ignored() -> None:
    request(
        truncation="auto", client_metadata={"a": 1}, service_tier="flex", user=7, safety_identifier=[], unheard_of=1
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": " "}, "input"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role"),
        ({"input": [HI, {"type": "function_call", "name": "x"}]}, "input[1].call_id"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"previous_response_id": "resp_gone"}, "previous_response_id"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "fly"}}, "tool_choice"),
        ({"tools": [{"name": "x"}]}, "tools[0].type"),
        ({"tools": [READ, {"type": "function"}]}, "tools[1].name"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_place(body: dict[str, Any], param: str) -> None:
    assert refused(**body).param == param
