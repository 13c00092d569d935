"""Tools and tool choices of chat completions, the deprecated `functions` among them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from cortex.dialects.custom_tools import GrammarBody, custom_tool
from cortex.dialects.json_body import portable
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import JsonSchema, Tool, ToolChoice

__all__ = [
    "ChoiceBody",
    "FunctionChoice",
    "FunctionTool",
    "ToolBody",
    "choice_of",
    "functions_of",
    "legacy_choice_of",
    "tools_of",
]


class FunctionTool(Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: JsonSchema | None = None
    strict: bool | None = None


class CustomFormat(Struct, frozen=True):
    type: str = "text"
    grammar: GrammarBody | None = None


class CustomTool(Struct, frozen=True):
    name: str
    description: str | None = None
    format: CustomFormat | None = None


class ToolBody(Struct, frozen=True):
    """`type` decides; hosted tools of other vendors are skipped, as refusing them breaks the whole conversation."""

    type: str = "function"
    function: FunctionTool | None = None
    custom: CustomTool | None = None


class Named(Struct, frozen=True):
    name: str


class NamedTool(Struct, frozen=True):
    type: str = "function"
    function: Named | None = None
    custom: Named | None = None
    name: str | None = None

    @property
    def tool(self) -> str:
        named = self.function or self.custom
        return named.name if named else self.name or ""


class AllowedTools(Struct, frozen=True):
    mode: Literal["auto", "required"] = "auto"
    tools: list[NamedTool] = []


class ChoiceBody(Struct, frozen=True):
    """`name` and the bare types are how the Responses and Anthropic APIs say it: clients mix them up."""

    type: str = "function"
    name: str | None = None
    function: Named | None = None
    custom: Named | None = None
    allowed_tools: AllowedTools | None = None


class FunctionChoice(Struct, frozen=True):
    name: str


def tools_of(bodies: list[ToolBody]) -> list[Tool]:
    """The tools offered; of two with one name the later counts. Raises BadRequest when a function has no name."""
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


def functions_of(bodies: list[FunctionTool]) -> list[Tool]:
    """The deprecated `functions` list."""
    return [_function(body, f"functions[{index}]") for index, body in enumerate(bodies)]


def choice_of(choice: str | ChoiceBody | None, tools: list[Tool]) -> ToolChoice:
    """Raises BadRequest for a choice that the tools can't satisfy, UnsupportedValue for an unknown word."""
    match choice:
        case None | "auto" | ChoiceBody(type="auto"):
            return ToolChoice()
        case "none" | ChoiceBody(type="none"):
            return ToolChoice("none")
        case "required" | "any" | ChoiceBody(type="required" | "any"):
            return _among(ToolChoice("required"), tools)
        case ChoiceBody(type="allowed_tools", allowed_tools=AllowedTools() as allowed):
            return _among(ToolChoice(allowed.mode, [tool.tool for tool in allowed.tools]), tools)
        case ChoiceBody(function=Named(name)) | ChoiceBody(custom=Named(name)) | ChoiceBody(name=str(name)):
            return _among(ToolChoice("required", [name]), tools)
        case _:
            known = "none, auto, required, or an object naming a function"
            raise UnsupportedValue(f"tool_choice must be {known}", param="tool_choice")


def legacy_choice_of(choice: str | FunctionChoice | None, tools: list[Tool]) -> ToolChoice:
    """The deprecated `function_call`: "none", "auto" or the name of one function."""
    if isinstance(choice, FunctionChoice):
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


def _function(body: FunctionTool, at: str) -> Tool:
    tool = Tool(name=_name(body.name, at), description=body.description or "", strict=body.strict is True)
    if body.parameters is None:
        return tool
    return Tool(tool.name, tool.description, portable(body.parameters, f"{at}.parameters"), tool.strict)


def _name(name: str, at: str) -> str:
    if not name.strip():
        raise BadRequest(f"{at} has no name", param=at)
    return name
