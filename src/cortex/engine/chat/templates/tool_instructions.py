"""Tools for models whose template doesn't declare any: the declaration is written into the system message.

The wording is one for all models; the form of a call is the model's own where its template renders calls, else

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Oslo"}}
    </tool_call>

which `formats.hermes` reads. docs/explanation/models.md describes it for operators.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from msgspec.structs import replace

from cortex.engine.chat.detection.capabilities import Capabilities
from cortex.engine.chat.detection.probe import Findings
from cortex.engine.chat.templates.prompt_renderer import template_tool
from cortex.wire.inference import InferenceRequest, Message, Text, Tool

__all__ = ["with_instruction"]

_GENERIC_EXAMPLE = (
    '<tool_call>\n{"name": "probe_tool", "arguments": {"first_key": "some value", "second_key": 42}}\n</tool_call>'
)


def with_instruction(
    request: InferenceRequest, tools: Sequence[Tool], takes: Capabilities, findings: Findings
) -> InferenceRequest:
    """`request` with what its template doesn't say told in a system message: the tools, and how to call them."""
    if not tools or (takes.tools and findings.tool_format is not None):
        return request
    example = findings.example if findings.tool_format and findings.example else _GENERIC_EXAMPLE
    message = Message("system", [Text(_instruction([] if takes.tools else tools, example))])
    return replace(request, messages=[*_head(request), message, *request.messages[len(_head(request)) :]])


def _head(request: InferenceRequest) -> list[Message]:
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
