"""Tools for models whose template doesn't declare them: they are described in a system message.

The wording is the same for all models. The form of a call is the model's own where its template renders calls, else

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Oslo"}}
    </tool_call>

which the format `hermes` parses. docs/explanation/models.md documents it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from msgspec.structs import replace

from cortex.engine.chat.templates.capabilities import Capabilities
from cortex.engine.chat.templates.prompt_renderer import template_tool
from cortex.wire.inference import InferenceRequest, Message, Text, Tool

__all__ = ["with_tool_instructions"]

_GENERIC_EXAMPLE = (
    '<tool_call>\n{"name": "probe_tool", "arguments": {"first_key": "some value", "second_key": 42}}\n</tool_call>'
)


def with_tool_instructions(
    request: InferenceRequest,
    tools: Sequence[Tool],
    capabilities: Capabilities,
    *,
    has_format: bool,
    example: str | None,
) -> InferenceRequest:
    """`request` with a system message for what its template leaves out: the tools, and how to call them.

    `has_format`: the model has a tool-call format of its own; `example`: a call as its template renders it.
    """
    if not tools or (capabilities.tools and has_format):
        return request
    shown = example if has_format and example else _GENERIC_EXAMPLE
    message = Message("system", [Text(_instruction([] if capabilities.tools else tools, shown))])
    return replace(request, messages=[*_head(request), message, *request.messages[len(_head(request)) :]])


def _head(request: InferenceRequest) -> list[Message]:
    """The system messages at the beginning."""
    head: list[Message] = []
    for message in request.messages:
        if message.role not in {"system", "developer"}:
            break
        head.append(message)
    return head


def _instruction(tools: Sequence[Tool], example: str) -> str:
    declared = "\n".join(json.dumps(template_tool(tool)["function"], ensure_ascii=False) for tool in tools)
    offer = f"You can call these tools, each described by its name and a JSON Schema of its arguments:\n{declared}\n\n"
    return (
        f"{offer if tools else ''}"
        "To call a tool, answer with exactly this form, with the tool's own name and arguments:\n"
        f"{example.strip()}\n\n"
        "Its result comes in the next message. Call a tool only when it helps; otherwise answer in plain words."
    )
