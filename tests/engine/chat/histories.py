"""Histories as real clients send them; the words that must reach the model are in capitals."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cortex.wire.inference import InferenceRequest, Message, Part, Role, Text, Thinking, Tool, ToolCall, ToolResult

__all__ = ["HISTORIES", "WEATHER", "chat_request", "needles", "said"]

WEATHER = Tool(
    name="get_weather",
    description="The weather of a city.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Where"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
)


def said(role: Role, *parts: str | Part) -> Message:
    return Message(role, [Text(part) if isinstance(part, str) else part for part in parts])


def _call(number: int, arguments: str = '{"city": "OSLO"}') -> ToolCall:
    return ToolCall(f"call_0000000000000000000{number}", "get_weather", arguments)


def _result(number: int, text: str) -> Message:
    return Message("tool", [ToolResult(f"call_0000000000000000000{number}", [Text(text)])])


HISTORIES: dict[str, list[Message]] = {
    "plain": [said("user", "ALPHA")],
    "system and turns": [
        said("system", "SYS"),
        said("user", "ALPHA"),
        said("assistant", "BETA"),
        said("user", "GAMMA"),
    ],
    "two system messages": [said("system", "SYSONE"), said("system", "SYSTWO"), said("user", "ALPHA")],
    "developer": [said("developer", "SYS"), said("user", "ALPHA")],
    "system in the middle": [
        said("user", "ALPHA"),
        said("assistant", "BETA"),
        said("system", "SYS"),
        said("user", "GAMMA"),
    ],
    "system at the end": [said("user", "ALPHA"), said("assistant", "BETA"), said("system", "SYS")],
    "system only": [said("system", "SYS")],
    "list content": [said("user", "ALPHA", "BETA"), said("assistant", "GAMMA", "DELTA"), said("user", "OMEGA")],
    "blank parts": [said("user", "ALPHA", "  \n"), said("assistant", ""), said("user", "GAMMA")],
    "users in a row": [said("user", "ALPHA"), said("user", "BETA"), said("user", "GAMMA")],
    "assistant first": [said("assistant", "ALPHA"), said("user", "BETA")],
    "assistant last": [said("user", "ALPHA"), said("assistant", "BETA")],
    "assistants in a row": [
        said("user", "ALPHA"),
        said("assistant", "BETA"),
        said("assistant", "GAMMA"),
        said("user", "X"),
    ],
    "no user": [said("system", "SYS"), said("assistant", "ALPHA")],
    "thinking": [said("user", "ALPHA"), said("assistant", Thinking("hm"), "BETA"), said("user", "GAMMA")],
    "a call": [said("user", "ALPHA"), said("assistant", _call(1)), _result(1, "RAIN")],
    "text and a call": [said("user", "ALPHA"), said("assistant", "BETA", _call(1)), _result(1, "RAIN")],
    "thinking and a call": [said("user", "ALPHA"), said("assistant", Thinking("hm"), _call(1)), _result(1, "RAIN")],
    "calls together": [
        said("user", "ALPHA"),
        said("assistant", _call(1), _call(2, '{"city": "ROME"}')),
        Message("tool", [*_result(1, "RAIN").parts, *_result(2, "SUN").parts]),
        said("assistant", "BETA"),
        said("user", "GAMMA"),
    ],
    "calls one after the other": [
        said("user", "ALPHA"),
        said("assistant", _call(1)),
        _result(1, "RAIN"),
        said("assistant", _call(2, '{"city": "ROME"}')),
        _result(2, "SUN"),
    ],
    "user after a result": [
        said("user", "ALPHA"),
        said("assistant", _call(1)),
        _result(1, "RAIN"),
        said("user", "GAMMA"),
    ],
    "a call without result": [said("user", "ALPHA"), said("assistant", _call(1)), said("user", "GAMMA")],
    "orphan result": [said("user", "ALPHA"), _result(1, "RAIN"), said("user", "GAMMA")],
    "orphan result first": [_result(1, "RAIN"), said("user", "GAMMA")],
    "result in parts": [
        said("user", "ALPHA"),
        said("assistant", _call(1)),
        Message("tool", [ToolResult("call_00000000000000000001", [Text("RAIN"), Text("COLD")])]),
    ],
    "empty result": [
        said("user", "ALPHA"),
        said("assistant", _call(1)),
        Message("tool", [ToolResult("call_00000000000000000001", [], is_error=True)]),
    ],
    "no arguments": [said("user", "ALPHA"), said("assistant", _call(1, "")), _result(1, "RAIN")],
    "nested arguments": [
        said("user", "ALPHA"),
        said("assistant", _call(1, '{"city": "ÅLESUND", "more": {"a": [1, true, null, "B\\"Q"], "e": {}}}')),
        _result(1, "RAIN"),
    ],
}


def needles(messages: Sequence[Message]) -> list[str]:
    """The capital words of a history."""
    texts: list[str] = []
    for message in messages:
        for part in message.parts:
            match part:
                case Text(text=text) | ToolCall(arguments=text):
                    texts.append(text)
                case ToolResult(parts=parts):
                    texts += [inner.text for inner in parts if isinstance(inner, Text)]
                case _:
                    pass
    return re.findall(r"[A-ZÅ]{3,}", " ".join(texts))


def chat_request(messages: Sequence[Message], *tools: Tool, **more: object) -> InferenceRequest:
    return InferenceRequest(id="r", model="m", messages=list(messages), tools=list(tools), **more)  # type: ignore[arg-type]
