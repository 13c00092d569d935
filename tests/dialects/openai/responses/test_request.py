"""What Responses clients send, and the request that comes of it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from cortex.dialects.opaque_reasoning import encode_opaque
from cortex.dialects.openai.responses.request import parse_responses
from cortex.errors import BadRequest, CortexError
from cortex.wire.inference import (
    Image,
    InferenceRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Text,
    TextFormat,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tests.dialects.harness import CONTEXT

READ = {"type": "function", "name": "read", "description": "Reads.", "parameters": {"type": "object"}}
FILES = {"type": "namespace", "name": "files", "description": "MCP", "tools": [READ, {**READ, "name": "write"}]}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
HI = {"role": "user", "content": "Hi"}
PNG = "data:image/png;base64," + base64.b64encode(b"png").decode()


def request(**body: Any) -> InferenceRequest:
    [parsed] = parse_responses(msgspec.json.encode({"model": "demo", "input": "Hi", **body}), CONTEXT).requests
    assert isinstance(parsed, InferenceRequest)
    return parsed


def messages(*items: dict[str, Any], **body: Any) -> list[tuple[str, Sequence[Part]]]:
    return [(message.role, message.parts) for message in request(input=list(items), **body).messages]


def refused(**body: Any) -> CortexError:
    with pytest.raises(BadRequest) as raised:
        request(**body)
    return raised.value


def call(call_id: str, **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "read", "arguments": "{}", **more}


def output(call_id: str, text: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


# ---- items


def test_a_string_is_a_user_message_behind_the_instructions() -> None:
    assert request(instructions="Be brief.").messages == [
        Message("system", [Text("Be brief.")]),
        Message("user", [Text("Hi")]),
    ]


@pytest.mark.parametrize("typed", [{}, {"type": "message"}, {"type": "message", "id": "msg_1", "status": "completed"}])
def test_a_message_may_leave_its_type_out(typed: dict[str, Any]) -> None:
    assert messages({**HI, **typed}) == [("user", [Text("Hi")])]


def test_every_role_and_content_form_is_read() -> None:
    content = [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": PNG},
        {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,eA=="},
    ]
    said = [{"type": "output_text", "text": "A", "annotations": []}, {"type": "refusal", "refusal": "B"}]
    assert messages(
        {"role": "developer", "content": "D"},
        {"role": "system", "content": "S"},
        {"role": "user", "content": content},
        {"type": "message", "role": "assistant", "content": said},
    ) == [
        ("developer", [Text("D")]),
        ("system", [Text("S")]),
        ("user", [Text("look"), Image(b"png"), Text("a.txt\n\nx")]),
        ("assistant", [Text("A"), Text("B")]),
    ]


def test_one_turn_of_flat_items_is_one_assistant_message_with_its_results_behind_it() -> None:
    assert messages(
        HI,
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hmm"}]},
        {"type": "message", "role": "assistant", "content": "On it."},
        call("c1"),
        call("c2", name="write"),
        output("c1"),
        output("c2", "too"),
    ) == [
        ("user", [Text("Hi")]),
        ("assistant", [Thinking("hmm"), Text("On it."), ToolCall("c1", "read", "{}"), ToolCall("c2", "write", "{}")]),
        ("tool", [ToolResult("c1", [Text("done")], "read"), ToolResult("c2", [Text("too")], "write")]),
    ]


def test_turns_are_parted_by_their_results() -> None:
    roles = [role for role, _ in messages(HI, call("c1"), output("c1"), call("c2"), output("c2"))]
    assert roles == ["user", "assistant", "tool", "assistant", "tool"]


def test_a_message_between_a_call_and_its_output_comes_after_both() -> None:
    roles = [role for role, _ in messages(HI, call("c1"), {"role": "developer", "content": "note"}, output("c1"))]
    assert roles == ["user", "assistant", "tool", "developer"]


def test_one_call_id_used_twice_gives_each_call_its_own_output() -> None:
    """Servers that count calls from 0 in every turn repeat their ids."""
    results = [
        parts[0] for role, parts in messages(call("c"), output("c", "a"), call("c"), output("c", "b")) if role == "tool"
    ]
    assert results == [ToolResult("c", [Text("a")], "read"), ToolResult("c", [Text("b")], "read")]


def test_an_output_without_a_call_is_kept() -> None:
    assert messages(output("lost")) == [("tool", [ToolResult("lost", [Text("done")])])]


def test_an_output_may_be_a_list_with_images() -> None:
    listed = [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": PNG}]
    assert messages(call("c"), output("c", listed))[1] == (
        "tool",
        [ToolResult("c", [Text("see"), Image(b"png")], "read")],
    )


@pytest.mark.parametrize(
    ("item", "thought"),
    [
        ({"summary": [], "encrypted_content": encode_opaque("sealed")}, "sealed"),
        ({"summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]}, "a\n\nb"),
        ({"content": [{"type": "reasoning_text", "text": "raw"}], "summary": []}, "raw"),
        ({"summary": [{"type": "summary_text", "text": "s"}], "encrypted_content": "gAAAA-of-another-server"}, "s"),
    ],
)
def test_reasoning_comes_back_by_what_is_left_of_it(item: dict[str, Any], thought: str) -> None:
    replayed = [{"type": "reasoning", "id": "rs_1", **item}, {"role": "assistant", "content": "x"}, HI]
    assert messages(*replayed)[0] == ("assistant", [Thinking(thought), Text("x")])


@pytest.mark.parametrize("item", [{}, {"summary": []}, {"summary": None, "content": None, "encrypted_content": None}])
def test_reasoning_with_nothing_left_is_no_thought(item: dict[str, Any]) -> None:
    assert messages({"type": "reasoning", **item}, HI) == [("user", [Text("Hi")])]


def test_a_custom_call_is_replayed_as_the_model_wrote_it() -> None:
    made = {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": '*** "x"\n'}
    answered = {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}
    assert messages(made, answered, tools=[PATCH]) == [
        ("assistant", [ToolCall("c", "apply_patch", '{"input":"*** \\"x\\"\\n"}')]),
        ("tool", [ToolResult("c", [Text("ok")], "apply_patch")]),
    ]


@pytest.mark.parametrize("offered", [[FILES], []])
def test_a_namespaced_call_is_replayed_under_the_name_that_the_model_used(offered: list[Any]) -> None:
    assert messages(call("c", namespace="files"), tools=offered) == [
        ("assistant", [ToolCall("c", "files__read", "{}")])
    ]


@pytest.mark.parametrize(
    "kind", ["web_search_call", "local_shell_call", "compaction", "ghost_snapshot", "tool_search_call"]
)
def test_items_that_mean_nothing_here_are_skipped(kind: str) -> None:
    assert messages({"type": kind, "id": 7, "action": {}}, HI) == [("user", [Text("Hi")])]


# ---- tools


def shown(*tools: dict[str, Any]) -> list[str]:
    return [tool.name for tool in request(tools=list(tools)).tools]


def test_namespaces_are_flattened() -> None:
    assert shown(FILES, READ) == ["files__read", "files__write", "read"]


def test_a_namespace_that_ends_in_underscores_gets_no_more_of_them() -> None:
    assert shown({**FILES, "name": "mcp__files__", "tools": [READ]}) == ["mcp__files__read"]


def test_a_flattened_name_is_safe_for_templates_and_unique() -> None:
    odd = {**FILES, "name": "my.files/x", "tools": [READ]}
    assert shown(odd, {**odd, "name": "my_files_x"}) == ["my_files_x__read", "my_files_x__read_2"]


@pytest.mark.parametrize(
    "kind", ["web_search", "image_generation", "code_interpreter", "mcp", "tool_search", "local_shell"]
)
def test_hosted_tools_are_skipped(kind: str) -> None:
    assert shown({"type": kind, "execution": "server", "name": kind}, READ) == ["read"]


def test_a_custom_tool_is_shown_as_a_function_of_one_string_with_its_grammar() -> None:
    [tool] = request(tools=[PATCH]).tools
    assert tool.parameters["required"] == ["input"]
    assert tool.description == "Edits.\n\nThe input follows this lark grammar:\nstart: /.+/"
    assert "pattern" not in tool.parameters["properties"]["input"]


def test_a_custom_tools_regex_is_the_pattern_of_its_string() -> None:
    """So the grammar of the call holds the model to it."""
    wanted = {"type": "grammar", "syntax": "regex", "definition": "a|b+"}
    [tool] = request(tools=[PATCH | {"format": wanted}]).tools
    assert tool.parameters["properties"]["input"]["pattern"] == "^(?:a|b+)$"
    assert "this regex grammar:\na|b+" in tool.description


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "read"}, ToolChoice("required", ["files__read"])),
        ({"type": "function", "name": "read", "namespace": "files"}, ToolChoice("required", ["files__read"])),
        ({"type": "custom", "name": "apply_patch"}, ToolChoice("required", ["apply_patch"])),
        ({"type": "web_search_preview"}, ToolChoice()),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "custom", "name": "apply_patch"}, {"type": "mcp"}],
            },
            ToolChoice("required", ["apply_patch"]),
        ),
    ],
)
def test_tool_choice(choice: Any, expected: ToolChoice) -> None:
    assert request(tools=[FILES, PATCH], tool_choice=choice).tool_choice == expected


def test_a_tool_is_required_only_where_one_is_left() -> None:
    assert request(tools=[{"type": "web_search"}], tool_choice="required").tool_choice == ToolChoice()


# ---- everything else


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, TextFormat()),
        ({"verbosity": "low"}, TextFormat()),
        ({"format": {"type": "text"}}, TextFormat()),
        ({"format": {"type": "json_object"}}, JsonObjectFormat()),
        ({"format": {"type": "json_schema", "name": "x"}}, JsonObjectFormat()),
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
