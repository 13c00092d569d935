"""Fields are heard under each of their names in every dialect, or refused: never ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cortex.dialects.anthropic.messages import parse_count_tokens, parse_messages
from cortex.dialects.base import Call, CallContext
from cortex.dialects.openai.chat.request import parse_chat
from cortex.dialects.openai.completions.request import parse_completions
from cortex.dialects.openai.embeddings import parse_embeddings
from cortex.dialects.openai.rerank import parse_rerank
from cortex.dialects.openai.responses.request import parse_responses
from cortex.errors import BadRequest, CortexError
from cortex.wire.inference import (
    Grammar,
    InferenceRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputFormat,
    Reasoning,
    TextFormat,
)
from tests.dialects.harness import CONTEXT

Parse = Callable[[bytes, CallContext], Call]
MESSAGES: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
DIALECTS: dict[str, tuple[Parse, dict[str, Any]]] = {
    "chat": (parse_chat, MESSAGES),
    "completions": (parse_completions, {"model": "demo", "prompt": "Hi"}),
    "responses": (parse_responses, {"model": "demo", "input": "Hi"}),
    "messages": (parse_messages, MESSAGES),
    "count_tokens": (parse_count_tokens, MESSAGES),
}
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)
every_chat = pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "completions"])

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def request(dialect: str, **fields: Any) -> InferenceRequest:
    parse, body = DIALECTS[dialect]
    (parsed,) = parse(msgspec.json.encode(body | fields), CONTEXT).requests
    assert isinstance(parsed, InferenceRequest)
    return parsed


def refusal(dialect: str, **fields: Any) -> CortexError:
    with pytest.raises(BadRequest) as caught:
        request(dialect, **fields)
    return caught.value


# ---- limits


@every_dialect
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict"])
def test_the_output_limit_is_heard_under_each_of_its_names(dialect: str, name: str) -> None:
    assert request(dialect, **{name: 7}).max_output == 7


@every_dialect
@pytest.mark.parametrize("stop", ["END", ["END"], ["", "END", "END"]])
@pytest.mark.parametrize("name", ["stop", "stop_sequences"])
def test_stop_strings_are_heard_under_both_names(dialect: str, name: str, stop: Any) -> None:
    assert request(dialect, **{name: stop}).stop == ["END"]


@every_dialect
def test_sampling_is_heard_in_every_dialect(dialect: str) -> None:
    sampling = request(dialect, seed=7, min_p=0.1, repeat_penalty=1.2, logit_bias={"5": -1}).sampling
    assert (sampling.seed, sampling.min_p, sampling.repeat_penalty, sampling.logit_bias) == (7, 0.1, 1.2, {5: -1.0})


@pytest.mark.parametrize("dialect", ["responses", "messages"])
def test_several_answers_are_refused_where_there_can_be_one(dialect: str) -> None:
    assert request(dialect, n=1).n == 1
    assert refusal(dialect, n=2).param == "n"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"logprobs": True}, 0), ({"logprobs": 3}, 3), ({"logprobs": False}, None), ({"n_probs": 2}, 2)],
)
def test_responses_hear_log_probabilities_by_the_names_of_the_other_apis(
    fields: dict[str, Any], expected: int | None
) -> None:
    assert request("responses", **fields).logprobs == expected


# ---- reasoning

OFF: list[dict[str, Any]] = [
    {"reasoning_effort": "none"},
    {"reasoning": {"effort": "none"}},
    {"reasoning": {"enabled": False}},
    {"reasoning": {"max_tokens": 0}},
    {"reasoning": False},
    {"reasoning": "off"},
    {"thinking": {"type": "disabled"}},
    {"thinking": False},
    {"enable_thinking": False},
    {"think": False},
    {"thinking_budget": 0},
    {"thinking_budget_tokens": 0},
    {"thinking_token_budget": 0},
    {"reasoning_budget_tokens": 0.0},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"chat_template_kwargs": {"thinking": False}},
    {"chat_template_kwargs": {"reasoning_effort": "none"}},
]


@every_chat
@pytest.mark.parametrize("fields", OFF, ids=str)
def test_reasoning_is_switched_off_by_any_of_its_switches(dialect: str, fields: dict[str, Any]) -> None:
    assert request(dialect, **fields).reasoning == Reasoning("off")


@pytest.mark.parametrize("fields", [fields for fields in OFF if not isinstance(fields.get("reasoning"), dict)], ids=str)
def test_a_switch_that_says_off_wins_over_an_effort_that_clients_always_send(fields: dict[str, Any]) -> None:
    assert request("chat", **{"reasoning": {"effort": "high"}} | fields).reasoning == Reasoning("off")


@every_chat
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Reasoning()),
        ({"thinking": {"type": "adaptive"}}, Reasoning()),
        ({"thinking": {}}, Reasoning()),
        ({"reasoning": {"summary": "auto"}}, Reasoning()),
        ({"reasoning_budget_tokens": -1}, Reasoning()),
        ({"reasoning_effort": "high"}, Reasoning("on", "high")),
        ({"reasoning": {"effort": "high"}}, Reasoning("on", "high")),
        ({"reasoning": "high"}, Reasoning("on", "high")),
        ({"think": "high"}, Reasoning("on", "high")),
        ({"chat_template_kwargs": {"reasoning_effort": "high"}}, Reasoning("on", "high")),
        ({"output_config": {"effort": "high"}}, Reasoning("auto", "high")),
        ({"think": True}, Reasoning("on")),
        ({"thinking": True}, Reasoning("on")),
        ({"enable_thinking": True}, Reasoning("on")),
        ({"reasoning": {"enabled": True}}, Reasoning("on")),
        ({"thinking": {"type": "enabled", "budget_tokens": 50}}, Reasoning("on", budget=50)),
        ({"thinking_budget": 50}, Reasoning("on", budget=50)),
        ({"thinking_token_budget": 50}, Reasoning("on", budget=50)),
        ({"reasoning": {"max_tokens": 50}}, Reasoning("on", budget=50)),
    ],
    ids=str,
)
def test_reasoning_is_asked_for_by_any_of_its_names(dialect: str, fields: dict[str, Any], expected: Reasoning) -> None:
    assert request(dialect, **fields).reasoning == expected


@every_chat
def test_template_variables_are_heard_in_every_chat_dialect(dialect: str) -> None:
    assert request(dialect, chat_template_kwargs={"custom": [1]}).template_kwargs == {"custom": [1]}
    assert refusal(dialect, chat_template_kwargs={"enable_thinking": "false"}).param


# ---- output formats

NAMED = JsonSchemaFormat(SCHEMA, "x", strict=False)
FREE = JsonSchemaFormat(SCHEMA, strict=False)
FLAT = {"type": "json_schema", "name": "x", "schema": SCHEMA}
NESTED = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


@every_dialect
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": NESTED}, NAMED),
        ({"response_format": FLAT}, NAMED),
        ({"response_format": {"json_schema": {"name": "x", "schema": SCHEMA}}}, NAMED),
        ({"response_format": {"type": "json_schema", "json_schema": SCHEMA}}, FREE),
        ({"text": {"format": NESTED}}, NAMED),
        ({"text": {"format": FLAT}}, NAMED),
        ({"response_format": {**FLAT, "strict": True}}, JsonSchemaFormat(SCHEMA, "x")),
        ({"output_config": {"format": FLAT}}, JsonSchemaFormat(SCHEMA, "x")),
        ({"output_format": NESTED}, JsonSchemaFormat(SCHEMA, "x")),
        ({"format": NESTED}, NAMED),
        ({"format": SCHEMA}, FREE),
        ({"format": "json"}, JsonObjectFormat()),
        ({"format": ""}, TextFormat()),
        ({"json_schema": SCHEMA}, FREE),
        ({"guided_json": SCHEMA}, FREE),
        ({"guided_json": msgspec.json.encode(SCHEMA).decode()}, FREE),
        ({"guided_regex": "[ab]+"}, Grammar("regex", "[ab]+")),
        ({"guided_choice": ["a.b", "c|d (e)"]}, Grammar("regex", r"a\.b|c\|d \(e\)")),
        ({"guided_grammar": 'root ::= "a"'}, Grammar("gbnf", 'root ::= "a"')),
        ({"guided_grammar": 'start: "a"'}, Grammar("lark", 'start: "a"')),
        ({"structured_outputs": {"json": SCHEMA}}, FREE),
        ({"structured_outputs": {"json_object": True}}, JsonObjectFormat()),
        ({"structured_outputs": {"regex": "[ab]+"}}, Grammar("regex", "[ab]+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, Grammar("regex", "a|b")),
        ({"structured_outputs": {"grammar": 'root ::= "a"'}}, Grammar("gbnf", 'root ::= "a"')),
        ({"structured_outputs": True}, TextFormat()),
        ({"grammar": 'root ::= "a"'}, Grammar("gbnf", 'root ::= "a"')),
        ({"response_format": {"type": "json_object"}, "guided_json": SCHEMA}, FREE),
        ({"response_format": NESTED, "guided_json": SCHEMA}, NAMED),
    ],
    ids=str,
)
def test_an_output_format_is_heard_under_each_of_its_names(
    dialect: str, fields: dict[str, Any], expected: OutputFormat
) -> None:
    assert request(dialect, **fields).format == expected


@every_dialect
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"json_schema": {"schema": "x"}}}, "response_format.json_schema"),
        ({"format": "yaml"}, "format"),
        ({"format": {"type": "text", "strict": 1}}, "format"),
        ({"guided_json": "{"}, "guided_json"),
        ({"structured_outputs": {"structural_tag": {}}}, "structured_outputs"),
        ({"response_format": NESTED, "guided_json": {"type": "array"}}, "guided_json"),
        ({"response_format": NESTED, "guided_regex": "a"}, "guided_regex"),
    ],
    ids=str,
)
def test_a_format_that_is_not_understood_is_refused_by_name(dialect: str, fields: dict[str, Any], param: str) -> None:
    assert refusal(dialect, **fields).param == param


TOOLS: dict[str, dict[str, Any]] = {
    "chat": {"type": "function", "function": {"name": "f"}},
    "responses": {"type": "function", "name": "f"},
    "messages": {"name": "f", "input_schema": {"type": "object"}},
}


@pytest.mark.parametrize("dialect", TOOLS)
@pytest.mark.parametrize("name", ["grammar", "guided_regex"])
def test_a_grammar_beside_tools_is_refused_by_the_name_the_client_used(dialect: str, name: str) -> None:
    assert refusal(dialect, tools=[TOOLS[dialect]], **{name: 'root ::= "a"'}).param == name


# ---- whole floats


@every_dialect
@pytest.mark.parametrize(("written", "value"), [("4096.0", 4096), ("1e1", 10), ("2E2", 200), ("0.5e1", 5), ("-0.0", 0)])
def test_a_whole_float_is_an_integer(dialect: str, written: str, value: int) -> None:
    parse, body = DIALECTS[dialect]
    text = msgspec.json.encode(body)[:-1] + f', "max_tokens": {written}, "top_k": {written}}}'.encode()
    (parsed,) = parse(text, CONTEXT).requests
    assert isinstance(parsed, InferenceRequest)
    assert (parsed.max_output, parsed.sampling.top_k) == (value, value)


@every_dialect
def test_a_float_that_is_not_whole_is_refused(dialect: str) -> None:
    assert refusal(dialect, max_tokens=1.5).param == "max_tokens"


def test_whole_floats_are_integers_in_nested_fields_and_lists() -> None:
    assert request("messages", thinking={"type": "enabled", "budget_tokens": 50.0}).reasoning.budget == 50
    assert request("chat", logit_bias=[[5.0, -1.5]]).sampling.logit_bias == {5: -1.5}
    assert request("completions", prompt=[1.0, 2.0]).prompt == [1, 2]
    (embedded,) = parse_embeddings(b'{"model": "m", "input": [[1.0, 2], [3e0]], "dimensions": 8.0}', CONTEXT).requests
    assert getattr(embedded, "inputs", None) == [[1, 2], [3]]
    parse_rerank(b'{"model": "m", "query": "q", "documents": ["d"], "top_n": 1.0}', CONTEXT)
