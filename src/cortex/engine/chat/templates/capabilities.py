"""What a chat template supports. `detection.capabilities` finds it out."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EFFORTS", "STRICTEST", "Capabilities"]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Reasoning efforts in ascending order, as in OpenAI's API and in the templates that take one."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a template renders as meant, and how it wants it. The field names and values are shown to operators.

    `system` at the head; `late_system` between other messages; `adjacent_users` two user turns in a row;
    `user_after_tool` a user turn right after a tool result; `without_user` no user turn at all; `tools` declarations,
    in the variable `tools_variable`, which must be a list if `tools_always`; `tool_calls` and their results;
    `parallel_calls` several in a turn; `text_with_calls` text before them in their turn; `orphan_results` results
    without a call; `object_arguments` a call's arguments as mapping (else as JSON text); `any_id` call ids of any form
    (else nine alphanumerics); `text_content` content as string (else as a list of parts); `empty_content` the content
    of a turn of calls alone; `reasoning_key` the message key of earlier reasoning; `thinking_switch` the boolean
    variable that turns reasoning on and off; `effort_variable` and the `efforts` it accepts.
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
"""Plain alternating text: tried when a template refuses a history that its capabilities should allow."""
