"""Tools and tool choices of chat completions, the deprecated `functions` included.

After openai's Python SDK 3.54 (`types/chat/chat_completion_tool_union_param.py`,
`types/chat/chat_completion_tool_choice_option_param.py`).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from cortex.dialects.custom_tools import GrammarBody, custom_tool
from cortex.dialects.json_body import wire_safe
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import JsonSchema, Tool, ToolChoice

__all__ = [
    "ChatFunction",
    "ChatTool",
    "ChatToolChoice",
    "LegacyFunctionChoice",
    "functions_of",
    "legacy_tool_choice_of",
    "tool_choice_of",
    "tools_of",
]


class ChatFunction(Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: JsonSchema | None = None
    strict: bool | None = None


class ChatToolFormat(Struct, frozen=True):
    type: str = "text"
    grammar: GrammarBody | None = None


class ChatCustomTool(Struct, frozen=True):
    name: str
    description: str | None = None
    format: ChatToolFormat | None = None


class ChatTool(Struct, frozen=True):
    """A tool. Types other than `function` and `custom` (hosted tools) are skipped, because rejecting them would make
    every request of the conversation fail."""

    type: str = "function"
    function: ChatFunction | None = None
    custom: ChatCustomTool | None = None


class ToolName(Struct, frozen=True):
    name: str


class NamedTool(Struct, frozen=True):
    type: str = "function"
    function: ToolName | None = None
    custom: ToolName | None = None
    name: str | None = None

    @property
    def tool(self) -> str:
        named = self.function or self.custom
        return named.name if named else self.name or ""


class AllowedTools(Struct, frozen=True):
    mode: Literal["auto", "required"] = "auto"
    tools: list[NamedTool] = []


class ChatToolChoice(Struct, frozen=True):
    """A tool choice. `name` and the types `auto`, `none`, `any` … are those of the Responses and Anthropic APIs, which
    clients mix up with this one."""

    type: str = "function"
    name: str | None = None
    function: ToolName | None = None
    custom: ToolName | None = None
    allowed_tools: AllowedTools | None = None


class LegacyFunctionChoice(Struct, frozen=True):
    name: str


def tools_of(bodies: list[ChatTool]) -> list[Tool]:
    """The wire tools. Of two tools with one name the later is used. Raises BadRequest when a tool has no name."""
    tools: list[Tool] = []
    for index, body in enumerate(bodies):
        at = f"tools[{index}]"
        if body.custom and body.type == "custom":
            grammar = body.custom.format.grammar if body.custom.format else None
            tools.append(custom_tool(_name(body.custom.name, at), body.custom.description, grammar, strict=True))
        elif body.type == "function":
            if body.function is None:
                raise BadRequest(f"{at}.function is required", param=f"{at}.function")
            tools.append(_function(body.function, at))
    return list({tool.name: tool for tool in tools}.values())


def functions_of(bodies: list[ChatFunction]) -> list[Tool]:
    """The wire tools of the deprecated `functions` list. Raises BadRequest when one has no name."""
    return [_function(body, f"functions[{index}]") for index, body in enumerate(bodies)]


def tool_choice_of(choice: str | ChatToolChoice | None, tools: list[Tool]) -> ToolChoice:
    """The wire tool choice. Raises BadRequest if the tools can't satisfy it, UnsupportedValue for an unknown value."""
    match choice:
        case None | "auto" | ChatToolChoice(type="auto"):
            return ToolChoice()
        case "none" | ChatToolChoice(type="none"):
            return ToolChoice("none")
        case "required" | "any" | ChatToolChoice(type="required" | "any"):
            return _among(ToolChoice("required"), tools)
        case ChatToolChoice(type="allowed_tools", allowed_tools=AllowedTools() as allowed):
            return _among(ToolChoice(allowed.mode, [tool.tool for tool in allowed.tools]), tools)
        case (
            ChatToolChoice(function=ToolName(name))
            | ChatToolChoice(custom=ToolName(name))
            | ChatToolChoice(name=str(name))
        ):
            return _among(ToolChoice("required", [name]), tools)
        case _:
            known = "none, auto, required, or an object naming a function"
            raise UnsupportedValue(f"tool_choice must be {known}", param="tool_choice")


def legacy_tool_choice_of(choice: str | LegacyFunctionChoice | None, tools: list[Tool]) -> ToolChoice:
    """The wire tool choice of the deprecated `function_call`: "none", "auto" or one function. Raises BadRequest like
    `tool_choice_of`."""
    if isinstance(choice, LegacyFunctionChoice):
        return _among(ToolChoice("required", [choice.name]), tools)
    return ToolChoice("none") if choice == "none" else ToolChoice()


def _among(choice: ToolChoice, tools: list[Tool]) -> ToolChoice:
    offered = [tool.name for tool in tools]
    if choice.mode == "required" and not offered:
        raise BadRequest("tool_choice asks for a tool call, but no tools are given", param="tool_choice")
    for name in choice.only:
        if name not in offered:
            names = ", ".join(offered) or "none"
            raise BadRequest(f"tool_choice names {name!r}, which is not among the tools ({names})", param="tool_choice")
    return choice


def _function(body: ChatFunction, at: str) -> Tool:
    tool = Tool(name=_name(body.name, at), description=body.description or "", strict=body.strict is True)
    if body.parameters is None:
        return tool
    return Tool(tool.name, tool.description, wire_safe(body.parameters, f"{at}.parameters"), tool.strict)


def _name(name: str, at: str) -> str:
    if not name.strip():
        raise BadRequest(f"{at} has no name", param=at)
    return name
