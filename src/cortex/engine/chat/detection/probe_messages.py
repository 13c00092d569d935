"""The small conversations that detection renders to find out what a template does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cortex.engine.chat.templates.template import ChatTemplate, Message, TemplateRejected

__all__ = ["assistant", "call", "declaration", "result", "try_render", "user"]

_DEADLINE_S = 1.0  # per rendering: a probe conversation has a few messages


def try_render(template: ChatTemplate, messages: Sequence[Message], **variables: Any) -> str | None:
    """The rendered messages, or None if the template refuses them."""
    defaults = {"messages": list(messages), "tools": None, "add_generation_prompt": False}
    try:
        return template.render({**defaults, **variables}, deadline_s=_DEADLINE_S)
    except TemplateRejected:
        return None


def user(text: str = "Ask") -> Message:
    return {"role": "user", "content": text}


def assistant(text: str | None = "Reply", **more: Any) -> Message:
    return {"role": "assistant", "content": text, **more}


def call(arguments: Any, name: str = "probe_tool", call_id: str = "aB3dE6gH9") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(text: str = "Result", name: str = "probe_tool", call_id: str = "aB3dE6gH9") -> Message:
    return {"role": "tool", "content": text, "tool_call_id": call_id, "name": name}


def declaration(name: str = "probe_tool", **properties: str) -> dict[str, Any]:
    """A tool declaration as templates see it; `properties` are names and JSON types."""
    schema = {
        "type": "object",
        "properties": {key: {"type": kind, "description": "A value."} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": schema}}
