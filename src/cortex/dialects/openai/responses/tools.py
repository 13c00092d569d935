"""The tools of a Responses request: their names in the prompt, and back to the client's names in calls.

A `namespace` (Codex declares one per MCP server) is flattened, because templates and tool-call formats have no
namespaces: `read` in `files` becomes `files__read`, and a call of it is sent with `name` and `namespace` again
(codex#36942). Hosted tools (web_search …) are skipped: nothing here can run them, and rejecting them makes every
request of the conversation fail (llama.cpp#20156).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from cortex.dialects.custom_tools import GrammarBody, custom_tool
from cortex.dialects.json_body import decode_body, wire_safe
from cortex.dialects.openai.responses.body import ResponsesTool, ResponsesToolChoice, ResponsesToolFormat
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import Tool, ToolChoice

__all__ = ["ClientTool", "Toolbox"]

logger = logging.getLogger(__name__)

_TOOL = msgspec.json.Decoder(ResponsesTool)
_UNSAFE = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A tool's name as the client declared it. `custom`: it takes raw text."""

    name: str
    namespace: str | None = None
    custom: bool = False


class Toolbox:
    """The tools of one request. `offered` are the wire tools, with their names in the prompt."""

    def __init__(self, tools: Sequence[Raw]) -> None:
        self.offered: list[Tool] = []
        self._by_shown: dict[str, ClientTool] = {}
        for index, raw in enumerate(tools):
            at = f"tools[{index}]"
            self._add(decode_body(_TOOL, raw, at).flat, None, at)

    def shown_name(self, name: str, namespace: str | None) -> str:
        """The name in the prompt of a tool in the history, which this request may not declare any more."""
        for shown, tool in self._by_shown.items():
            if tool.name == name and tool.namespace == namespace:
                return shown
        return _flattened(name, namespace)

    def client_tool(self, shown: str) -> ClientTool:
        """The client's tool for a name that the model called; unknown names are returned unchanged."""
        return self._by_shown.get(shown) or ClientTool(shown)

    def choice(self, choice: str | ResponsesToolChoice | None) -> ToolChoice:
        """The wire tool choice. Raises BadRequest for a tool that isn't offered, UnsupportedValue for an unknown value.
        A choice of hosted tools counts as no choice."""
        match choice:
            case None | "auto":
                return ToolChoice()
            case "none" | ResponsesToolChoice(type="none"):
                return ToolChoice("none")
            case "required" | "any" | ResponsesToolChoice(type="required" | "any"):
                return ToolChoice("required") if self.offered else ToolChoice()
            case ResponsesToolChoice(type="function" | "custom" | "tool"):
                nested = choice.function or choice.custom
                name = choice.name or (nested.name if nested else "")
                return ToolChoice("required", [self._offered_name(name, choice.namespace)])
            case ResponsesToolChoice(type="allowed_tools"):
                allowed = [tool for tool in choice.tools if tool.type in ("function", "custom")]
                names = [self._offered_name(tool.name, tool.namespace) for tool in allowed]
                return ToolChoice(choice.mode if names else "auto", names)
            case ResponsesToolChoice():
                return ToolChoice()
            case _:
                raise UnsupportedValue("tool_choice must be none, auto, required or name a tool", param="tool_choice")

    def _add(self, body: ResponsesTool, namespace: str | None, at: str) -> None:
        match body.type:
            case "namespace":
                for index, member in enumerate(body.tools or []):
                    self._add(member.flat, _named(body, at), f"{at}.tools[{index}]")
            case "function":
                self._offer(_function(body), ClientTool(_named(body, at), namespace))
            case "custom":
                tool = custom_tool(
                    _named(body, at), body.description, _grammar(body.format), strict=body.strict is True
                )
                self._offer(tool, ClientTool(tool.name, namespace, custom=True))
            case hosted:
                logger.debug("skipping hosted tool of type %s", hosted)

    def _offer(self, offered: Tool, tool: ClientTool) -> None:
        shown = self._unused(_flattened(tool.name, tool.namespace))
        self._by_shown[shown] = tool
        self.offered.append(msgspec.structs.replace(offered, name=shown))

    def _unused(self, shown: str) -> str:
        """`shown`, with a number appended if another tool has that name: two namespaces may flatten to one name."""
        number = 2
        candidate = shown
        while candidate in self._by_shown:
            candidate = f"{shown}_{number}"
            number += 1
        return candidate

    def _offered_name(self, name: str, namespace: str | None) -> str:
        for shown, tool in self._by_shown.items():
            if tool.name == name and namespace in (None, tool.namespace):
                return shown
        offered = ", ".join(self._by_shown) or "none"
        raise BadRequest(f"tool_choice: no tool is named {name!r} (offered: {offered})", param="tool_choice")


def _flattened(name: str, namespace: str | None) -> str:
    if namespace is None:
        return name
    return _UNSAFE.sub("_", f"{namespace.rstrip('_')}__{name}")


def _named(body: ResponsesTool, at: str) -> str:
    if not body.name.strip():
        raise BadRequest(f"{at} has no name", param=f"{at}.name")
    return body.name


def _grammar(format_: ResponsesToolFormat | None) -> GrammarBody | None:
    return None if format_ is None else format_.grammar or format_


def _function(body: ResponsesTool) -> Tool:
    tool = Tool(body.name, body.description or "", strict=body.strict is True)
    parameters = wire_safe(body.parameters, "tools")
    return tool if parameters is None else msgspec.structs.replace(tool, parameters=parameters)
