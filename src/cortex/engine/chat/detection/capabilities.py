"""Finds out what a chat template supports, by rendering small conversations and searching for their words."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from cortex.engine.chat.detection.probe_messages import (
    assistant,
    call,
    declaration,
    result,
    try_render,
    user,
)
from cortex.engine.chat.templates.capabilities import EFFORTS, Capabilities
from cortex.engine.chat.templates.template import ChatTemplate, Message

__all__ = ["detect_capabilities"]

_EFFORT_VARIABLES = ("reasoning_effort", "reasoning_strength", "thinking_effort")
_THINKING_SWITCHES = ("enable_thinking", "thinking", "reasoning", "enable_reasoning")
_TOOL_VARIABLES = ("tools", "xml_tools", "custom_tools")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought")


def detect_capabilities(template: ChatTemplate) -> Capabilities:
    """The capabilities of `template`. One that refuses even a plain question comes out with hardly any."""
    return _Detector(template).capabilities()


class _Detector:
    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._text_content = True
        self._no_tools: list[object] | None = None
        for always, text in itertools.product((False, True), (True, False)):
            self._no_tools, self._text_content = ([] if always else None), text
            if self._shows([user("NEEDLE")], "NEEDLE"):
                return
        self._text_content, self._no_tools = True, None

    def capabilities(self) -> Capabilities:
        shape = self._call_shape()
        calls = shape is not None
        content, as_object, any_id = shape or ("", True, True)
        chat = [user(), assistant(content, tool_calls=[call(_arguments(as_object))])]
        self._effort, self._thinking = self._effort_variable(), self._switch()
        tools = self._tools_variable()
        return Capabilities(
            system=self._shows([_system("NEEDLE"), user()], "NEEDLE"),
            late_system=self._late_system(),
            adjacent_users=self._shows([user("NEEDLE1"), user("NEEDLE2")], "NEEDLE1", "NEEDLE2"),
            user_after_tool=not calls or self._shows([*chat, result(), user("NEEDLE")], "NEEDLE"),
            without_user=self._shows([assistant("NEEDLE")], "NEEDLE"),
            tools=tools is not None,
            tools_always=self._no_tools is not None,
            tools_variable=tools or "tools",
            tool_calls=calls,
            parallel_calls=calls and self._parallel(content, as_object),
            text_with_calls=not calls or self._text_with_calls(content, as_object),
            orphan_results=self._shows([user(), result("NEEDLE")], "NEEDLE"),
            object_arguments=as_object,
            any_id=any_id,
            text_content=self._text_content,
            empty_content=content,
            reasoning_key=self._reasoning_key(),
            thinking_switch=self._thinking,
            effort_variable=self._effort,
            efforts=self._efforts(self._effort) if self._effort else (),
        )

    def _render(self, messages: Sequence[Message], **variables: Any) -> str | None:
        shaped = [self._shaped(message) for message in messages]
        variables = {"tools": self._no_tools, **variables}
        return try_render(self._template, shaped, **variables)

    def _shaped(self, message: Message) -> Message:
        if self._text_content or not isinstance(message["content"], str):
            return message
        return {**message, "content": [{"type": "text", "text": message["content"]}]}

    def _shows(self, messages: Sequence[Message], *needles: str, **variables: Any) -> bool:
        """Whether the rendered messages contain the needles in this order."""
        text = self._render(messages, **variables)
        return text is not None and _in_order(text, needles)

    def _tools_variable(self) -> str | None:
        for name in _TOOL_VARIABLES:
            if self._shows([user()], "NEEDLE_TOOL", **{name: [declaration("NEEDLE_TOOL", key="string")]}):
                return name
        return None

    def _late_system(self) -> bool:
        """Rendered in its place: a template that puts it first would invalidate the cached prefix."""
        messages = [_system("NEEDLE1"), user("NEEDLE2"), assistant("NEEDLE3"), _system("NEEDLE4"), user("NEEDLE5")]
        return self._shows(messages, "NEEDLE1", "NEEDLE2", "NEEDLE3", "NEEDLE4", "NEEDLE5")

    def _call_shape(self) -> tuple[str | None, bool, bool] | None:
        """How a call must look to be rendered well: (content, arguments as mapping?, any id?)."""
        tools = [declaration(key="string")]
        contents: tuple[str | None, ...] = ("", None)
        for any_id, as_object, content in itertools.product((True, False), (True, False), contents):
            call_id = "call_0123456789abcdef" if any_id else "aB3dE6gH9"
            made = call(_arguments(as_object), call_id=call_id)
            messages = [user(), assistant(content, tool_calls=[made]), result("NEEDLE_RESULT", call_id=call_id)]
            text = self._render(messages, tools=tools)
            if text is not None and _well_rendered(text):
                return content, as_object, any_id
        return None

    def _parallel(self, content: str | None, as_object: bool) -> bool:
        calls = [
            call(_arguments(as_object, "NEEDLE1"), call_id="aB3dE6gH1"),
            call(_arguments(as_object, "NEEDLE2"), call_id="aB3dE6gH2"),
        ]
        answers = [result("NEEDLE3", call_id="aB3dE6gH1"), result("NEEDLE4", call_id="aB3dE6gH2")]
        needles = ("NEEDLE1", "NEEDLE2", "NEEDLE3", "NEEDLE4")
        return self._shows([user(), assistant(content, tool_calls=calls), *answers], *needles)

    def _text_with_calls(self, content: str | None, as_object: bool) -> bool:
        """Also True if text and call in separate turns aren't rendered either."""
        calls = {"tool_calls": [call(_arguments(as_object))]}
        rest = [result("NEEDLE3"), assistant("NEEDLE4"), user()]
        needles = ("NEEDLE1", "NEEDLE_VALUE", "NEEDLE3", "NEEDLE4")
        if self._shows([user(), assistant("NEEDLE1", **calls), *rest], *needles):
            return True
        return not self._shows([user(), assistant("NEEDLE1"), assistant(content, **calls), *rest], *needles)

    def _reasoning_key(self) -> str | None:
        """Tried with an answer, then with a call: some templates keep reasoning only there."""
        on: dict[str, Any] = {self._thinking: True} if self._thinking else {}
        companions: tuple[Message, ...] = ({}, {"tool_calls": [call({"key": "value"})]})
        for key, more in itertools.product(_REASONING_KEYS, companions):
            if self._shows([user(), assistant("" if more else "Reply", **{key: "NEEDLE"}, **more)], "NEEDLE", **on):
                return key
        return None

    def _switch(self) -> str | None:
        for name in _THINKING_SWITCHES:
            rendered = {self._render([user()], add_generation_prompt=True, **{name: value}) for value in (True, False)}
            if len(rendered - {None}) == 2:
                return name
        return None

    def _effort_variable(self) -> str | None:
        for name in _EFFORT_VARIABLES:
            rendered = {self._render([user()], add_generation_prompt=True, **{name: effort}) for effort in EFFORTS}
            if len(rendered) > 1:
                return name
        return None

    def _efforts(self, name: str) -> tuple[str, ...]:
        return tuple(
            effort
            for effort in EFFORTS
            if self._render([user()], add_generation_prompt=True, **{name: effort}) is not None
        )


def _system(text: str) -> Message:
    return {"role": "system", "content": text}


def _arguments(as_object: bool, value: str = "NEEDLE_VALUE") -> Any:
    return {"NEEDLE_KEY": value} if as_object else f'{{"NEEDLE_KEY": "{value}"}}'


def _well_rendered(text: str) -> bool:
    """Name, arguments and result are rendered, and the arguments aren't Python's repr or doubly encoded JSON."""
    in_order = _in_order(text, ("probe_tool", "NEEDLE_VALUE", "NEEDLE_RESULT"))
    return in_order and "'NEEDLE_KEY'" not in text and '\\"NEEDLE_KEY' not in text


def _in_order(text: str, needles: Sequence[str]) -> bool:
    position = 0
    for needle in needles:
        position = text.find(needle, position)
        if position < 0:
            return False
        position += len(needle)
    return True
