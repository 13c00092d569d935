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
    "custom_names",
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


class ChatToolFormat(GrammarBody, frozen=True):
    """A custom tool's `format`. The grammar's fields are nested in chat completions and flat in the Responses API."""

    type: str = "text"
    grammar: GrammarBody | None = None


class ChatCustomTool(Struct, frozen=True):
    name: str
    description: str | None = None
    format: ChatToolFormat | None = None


class ChatTool(Struct, frozen=True):
    """A tool, in the form of this API (`function`, `custom`) or in the flat ones that clients mix in: the Responses
    API's (`name`, `parameters`, `format`) and Anthropic's (`name`, `input_schema`).

    Types other than `function` and `custom` (hosted tools) are skipped, because rejecting them would make every request
    of the conversation fail.
    """

    type: str | None = None
    function: ChatFunction | None = None
    custom: ChatCustomTool | None = None
    name: str | None = None
    description: str | None = None
    parameters: JsonSchema | None = None
    input_schema: JsonSchema | None = None
    strict: bool | None = None
    format: ChatToolFormat | None = None

    @property
    def as_custom(self) -> ChatCustomTool | None:
        """The custom tool that this is, if it is one. Anthropic's `custom` tools are functions."""
        if self.type != "custom" or self.input_schema is not None:
            return None
        return self.custom or (None if self.name is None else ChatCustomTool(self.name, self.description, self.format))

    @property
    def as_function(self) -> ChatFunction | None:
        if self.function or self.name is None:
            return self.function
        schema = self.parameters if self.input_schema is None else self.input_schema
        return ChatFunction(self.name, self.description, schema, self.strict)


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
    clients mix up with this one; so are `mode` and `tools` beside the type `allowed_tools`, and
    `disable_parallel_tool_use`."""

    type: str = "function"
    name: str | None = None
    function: ToolName | None = None
    custom: ToolName | None = None
    allowed_tools: AllowedTools | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list[NamedTool] | None = None
    disable_parallel_tool_use: bool | None = None


class LegacyFunctionChoice(Struct, frozen=True):
    name: str


def tools_of(bodies: list[ChatTool]) -> list[Tool]:
    """The wire tools. Of two tools with one name the later is used. Raises BadRequest when a tool has no name."""
    tools: list[Tool] = []
    for index, body in enumerate(bodies):
        at = f"tools[{index}]"
        if custom := body.as_custom:
            tools.append(custom_tool(_name(custom.name, at), custom.description, _grammar(custom.format), strict=True))
        elif body.type in (None, "function", "custom"):
            function = body.as_function
            if function is None:
                kind = "custom" if body.type == "custom" else "function"
                raise BadRequest(f"{at}.{kind} is required", param=f"{at}.{kind}")
            tools.append(_function(function, at))
    return list({tool.name: tool for tool in tools}.values())


def custom_names(bodies: list[ChatTool]) -> frozenset[str]:
    """The names of the custom tools, whose calls are answered with raw text."""
    return frozenset(custom.name for body in bodies if (custom := body.as_custom))


def _grammar(format_: ChatToolFormat | None) -> GrammarBody | None:
    return None if format_ is None else format_.grammar or format_


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
        case ChatToolChoice(type="allowed_tools", mode=mode, tools=list(flat)):
            return _among(ToolChoice(mode, [tool.tool for tool in flat]), tools)
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
