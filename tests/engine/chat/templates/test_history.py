from __future__ import annotations

from dataclasses import replace

import pytest

from cortex.engine.chat.templates.capabilities import Capabilities
from cortex.engine.chat.templates.history import adapt_history
from cortex.engine.chat.templates.image_markers import image_marker
from cortex.engine.chat.templates.template import Message as TemplateMessage
from cortex.wire.inference import Image, Message, Text, Thinking, ToolCall, ToolResult
from tests.engine.chat.histories import HISTORIES, said

EASY = Capabilities(tools=True, tool_calls=True, parallel_calls=True, orphan_results=True, reasoning_key="reasoning")


def told(messages: list[Message], capabilities: Capabilities = EASY) -> list[tuple[str, object]]:
    return [(message["role"], message["content"]) for message in adapt_history(messages, capabilities)]


def test_an_easy_template_gets_the_history_as_it_is() -> None:
    history = HISTORIES["system in the middle"]
    assert told(history) == [("user", "ALPHA"), ("assistant", "BETA"), ("system", "SYS"), ("user", "GAMMA")]


def test_leading_system_messages_become_one() -> None:
    assert told(HISTORIES["two system messages"]) == [("system", "SYSONE\n\nSYSTWO"), ("user", "ALPHA")]


def test_a_late_system_message_stays_in_its_place_as_a_reminder() -> None:
    shown = told(HISTORIES["system in the middle"], replace(EASY, late_system=False))
    assert shown[2] == ("user", "<system-reminder>\nSYS\n</system-reminder>")


def test_without_system_role_the_system_text_opens_the_first_user_turn() -> None:
    shown = told(HISTORIES["system and turns"], replace(EASY, system=False))
    assert shown == [("user", "SYS\n\nALPHA"), ("assistant", "BETA"), ("user", "GAMMA")]


def test_neighbours_of_one_role_are_merged_where_roles_must_alternate() -> None:
    shown = told(HISTORIES["users in a row"], replace(EASY, adjacent_users=False))
    assert shown == [("user", "ALPHA\n\nBETA\n\nGAMMA")]


def test_a_user_is_added_where_one_is_required() -> None:
    shown = told(HISTORIES["no user"], replace(EASY, without_user=False))
    assert shown == [("system", "SYS"), ("user", "Go on."), ("assistant", "ALPHA")]


def test_results_nobody_asked_for_become_user_text() -> None:
    shown = told(HISTORIES["orphan result"], replace(EASY, orphan_results=False))
    assert shown[1] == ("user", "<tool_response>\nRAIN\n</tool_response>")


def test_calls_made_together_are_told_one_by_one_where_a_turn_takes_one() -> None:
    shown = adapt_history(HISTORIES["calls together"], replace(EASY, parallel_calls=False))
    assert [message["role"] for message in shown] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert [message["content"] for message in shown if message["role"] == "tool"] == ["RAIN", "SUN"]


def test_calls_and_results_are_plain_turns_where_the_template_shows_none() -> None:
    shown = told(HISTORIES["a call"], replace(EASY, tool_calls=False))
    assert shown[1] == (
        "assistant",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "OSLO"}}\n</tool_call>',
    )
    assert shown[2] == ("user", "<tool_response>\nRAIN\n</tool_response>")


@pytest.mark.parametrize(("as_object", "expected"), [(True, {"city": "OSLO"}), (False, '{"city": "OSLO"}')])
def test_arguments_come_as_the_template_takes_them(as_object: bool, expected: object) -> None:
    shown = adapt_history(HISTORIES["a call"], replace(EASY, object_arguments=as_object))
    assert shown[1]["tool_calls"][0]["function"]["arguments"] == expected


def test_ids_are_shortened_alike_in_call_and_result() -> None:
    shown = adapt_history(HISTORIES["a call"], replace(EASY, any_id=False))
    call_id = shown[1]["tool_calls"][0]["id"]
    assert len(call_id) == 9
    assert call_id.isalnum()
    assert shown[2]["tool_call_id"] == call_id


def test_a_result_learns_its_tools_name_from_the_call() -> None:
    assert adapt_history(HISTORIES["a call"], EASY)[2]["name"] == "get_weather"


def test_an_error_result_says_so() -> None:
    message = Message("tool", [ToolResult("c", [Text("no such city")], is_error=True)])
    assert told([message]) == [("tool", "Error: no such city")]


def test_results_come_before_the_text_of_the_same_message() -> None:
    message = Message("user", [Text("and now?"), ToolResult("c", [Text("RAIN")])])
    assert told([message]) == [("tool", "RAIN"), ("user", "and now?")]


def test_content_becomes_parts_where_the_template_wants_parts() -> None:
    shown = told([said("user", "A", " ", "B")], replace(EASY, text_content=False))
    assert shown == [("user", [{"type": "text", "text": "A\nB"}])]


def test_earlier_thinking_goes_where_the_template_looks_for_it() -> None:
    history = [said("user", "Q"), said("assistant", Thinking("hm"), "A")]
    expected: TemplateMessage = {"role": "assistant", "content": "A", "reasoning": "hm"}
    assert adapt_history(history, EASY)[1] == expected
    assert adapt_history(history, replace(EASY, reasoning_key=None))[1] == {"role": "assistant", "content": "A"}


def test_images_leave_markers() -> None:
    messages = [said("user", "see", Image(b"1"), Image(b"2"))]
    assert told(messages)[0] == ("user", f"see\n{image_marker(b'1')}\n{image_marker(b'2')}")


@pytest.mark.parametrize("arguments", ["", "null", "{}"])
def test_a_call_without_arguments_has_an_empty_object(arguments: str) -> None:
    shown = adapt_history([said("user", Text("x")), said("assistant", ToolCall("c1", "f", arguments))], EASY)
    assert shown[1]["tool_calls"][0]["function"]["arguments"] == {}


DEEP = '{"a":' * 2000
DIGITS = '{"a": ' + "9" * 4400 + "}"


@pytest.mark.parametrize(
    ("arguments", "value"), [("{", "{"), ("[1]", [1]), ('"x"', "x"), (DEEP, DEEP), (DIGITS, DIGITS)]
)
def test_arguments_that_are_no_object_are_wrapped(arguments: str, value: object) -> None:
    shown = adapt_history([said("user", Text("x")), said("assistant", ToolCall("c1", "f", arguments))], EASY)
    assert shown[1]["tool_calls"][0]["function"]["arguments"] == {"arguments": value}


def results_for(*ids: str, calls: tuple[str, ...] = ("c1", "c2", "c3")) -> list[object]:
    """The results' texts as the template gets them, when the client sends those of `ids` in this order."""
    made = said("assistant", *(ToolCall(each, "f", "{}") for each in calls))
    sent = [
        Message("tool", [ToolResult(each, [Text(f"{each or 'nameless'}:{number}")])]) for number, each in enumerate(ids)
    ]
    shown = told([said("user", "x"), made, *sent, said("assistant", "y")])
    assert [role for role, _ in shown] == ["user", "assistant", *["tool"] * len(ids), "assistant"]
    return [content for role, content in shown if role == "tool"]


@pytest.mark.parametrize(
    ("ids", "shown"),
    [
        (("c1", "c2", "c3"), ["c1:0", "c2:1", "c3:2"]),
        (("c3", "c1", "c2"), ["c1:1", "c2:2", "c3:0"]),
        (("c2", "c1"), ["c1:1", "c2:0"]),
        (("lost", "c2", "c1"), ["c1:2", "c2:1", "lost:0"]),
        (("", "c2", ""), ["nameless:0", "c2:1", "nameless:2"]),
        (("c3", "", ""), ["nameless:1", "nameless:2", "c3:0"]),
    ],
)
def test_results_come_in_the_order_of_their_calls(ids: tuple[str, ...], shown: list[str]) -> None:
    """A template without ids tells by the order alone whose result it is: Rome's weather must not be Oslo's."""
    assert results_for(*ids) == shown


def test_results_of_one_id_used_twice_keep_their_order() -> None:
    assert results_for("c", "c", calls=("c", "c")) == ["c:0", "c:1"]


def test_the_results_of_one_message_are_ordered_too() -> None:
    made = said("assistant", ToolCall("c1", "f", "{}"), ToolCall("c2", "g", "{}"))
    both = Message("tool", [ToolResult("c2", [Text("two")]), ToolResult("c1", [Text("one")])])
    shown = adapt_history([said("user", "x"), made, both], EASY)
    assert [(message["content"], message["name"]) for message in shown[2:]] == [("one", "f"), ("two", "g")]
