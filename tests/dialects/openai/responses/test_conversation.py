"""Input items of the Responses API become wire messages."""

from __future__ import annotations

from typing import Any

import pytest

from cortex.dialects.opaque_reasoning import encode_opaque
from cortex.wire.inference import Image, Text, Thinking, ToolCall, ToolResult
from tests.dialects.openai.responses.bodies import FILES, HI, PATCH, PNG, call, messages, output


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
        ("user", [Text("look"), Image(b"\x89PNG"), Text("a.txt\n\nx")]),
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
        [ToolResult("c", [Text("see"), Image(b"\x89PNG")], "read")],
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
