"""What a chat template takes, found once per model by rendering small conversations with needles in them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cortex.engine.chat.detection.probe_messages import (
    Message,
    assistant,
    call,
    declaration,
    result,
    try_render,
    user,
)
from cortex.engine.chat.templates.template import ChatTemplate

__all__ = ["EFFORTS", "STRICTEST", "Capabilities", "probe_capabilities"]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_EFFORT_VARIABLES = ("reasoning_effort", "reasoning_strength", "thinking_effort")
_SWITCHES = ("enable_thinking", "thinking", "reasoning", "enable_reasoning")
_TOOL_VARIABLES = ("tools", "xml_tools", "custom_tools")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What may be put before a template. Each is "True: it renders this as meant"; the defaults are the easy template.

    `system` at the head; `late_system` between other messages; `adjacent_users` two user turns in a row;
    `user_after_tool` a user turn right after a tool result; `without_user` no user turn at all; `tools` declarations,
    in `tools_variable`, which `tools_always` wants to be a list; `tool_calls` and their results; `parallel_calls` for
    several in a turn, `text_with_calls` for text before them; `orphan_results` results nobody asked for;
    `object_arguments` a call's arguments as mapping (else as JSON text); `any_id` call ids of any form (else nine
    alphanumerics); `text_content` content as string (else as a list of parts); `empty_content` what a turn of calls
    alone has; `reasoning_key` where earlier reasoning goes; `thinking_switch` the boolean that turns thinking on and
    off; `effort_variable` and the `efforts` it accepts.
    """

    system: bool = True
    late_system: bool = True
    adjacent_users: bool = True
    user_after_tool: bool = True
    without_user: bool = True
    tools: bool = False
    tools_always: bool = False
    tools_variable: str = "tools"
    tool_calls: bool = False
    parallel_calls: bool = False
    text_with_calls: bool = True
    orphan_results: bool = False
    object_arguments: bool = True
    any_id: bool = True
    text_content: bool = True
    empty_content: str | None = ""
    reasoning_key: str | None = None
    thinking_switch: str | None = None
    effort_variable: str | None = None
    efforts: tuple[str, ...] = ()


STRICTEST = Capabilities(
    system=False, late_system=False, adjacent_users=False, user_after_tool=False, without_user=False, any_id=False
)
"""Plain alternating text: what is left when a template refuses a history that its capabilities should allow."""


def probe_capabilities(template: ChatTemplate) -> Capabilities:
    """Render the probes. A template that refuses even a plain question gets the strictest treatment."""
    return _Prober(template).capabilities()


class _Prober:
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
        """Whether the rendering holds the needles in their order."""
        text = self._render(messages, **variables)
        return text is not None and _in_order(text, needles)

    def _tools_variable(self) -> str | None:
        for name in _TOOL_VARIABLES:
            if self._shows([user()], "NEEDLE_TOOL", **{name: [declaration("NEEDLE_TOOL", key="string")]}):
                return name
        return None

    def _late_system(self) -> bool:
        """In its place and on its own: a template that moves it to the head would break the cached prefix."""
        messages = [_system("NEEDLE1"), user("NEEDLE2"), assistant("NEEDLE3"), _system("NEEDLE4"), user("NEEDLE5")]
        return self._shows(messages, "NEEDLE1", "NEEDLE2", "NEEDLE3", "NEEDLE4", "NEEDLE5")

    def _call_shape(self) -> tuple[str | None, bool, bool] | None:
        """How a call has to look to be shown: (content, arguments as mapping?, any id?)."""
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
        """Also True where telling them apart would be no better."""
        calls = {"tool_calls": [call(_arguments(as_object))]}
        rest = [result("NEEDLE3"), assistant("NEEDLE4"), user()]
        needles = ("NEEDLE1", "NEEDLE_VALUE", "NEEDLE3", "NEEDLE4")
        if self._shows([user(), assistant("NEEDLE1", **calls), *rest], *needles):
            return True
        return not self._shows([user(), assistant("NEEDLE1"), assistant(content, **calls), *rest], *needles)

    def _reasoning_key(self) -> str | None:
        """Looked for beside an answer and, since some keep no other, beside a call."""
        on = {self._thinking: True} if self._thinking else {}
        beside: tuple[Message, ...] = ({}, {"tool_calls": [call({"key": "value"})]})
        for key, more in itertools.product(_REASONING_KEYS, beside):
            if self._shows([user(), assistant("" if more else "Reply", **{key: "NEEDLE"}, **more)], "NEEDLE", **on):
                return key
        return None

    def _switch(self) -> str | None:
        for name in _SWITCHES:
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
    """Name, arguments and result are there, and no Python or doubly encoded JSON."""
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
