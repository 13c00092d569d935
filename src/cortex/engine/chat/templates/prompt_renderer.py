"""Renders chat requests to prompts with one template, as its capabilities allow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from cortex.engine.chat.templates.capabilities import STRICTEST, Capabilities
from cortex.engine.chat.templates.history import adapt_history
from cortex.engine.chat.templates.reasoning_effort import reasoning_variables
from cortex.engine.chat.templates.template import ChatTemplate, Message, TemplateRejected
from cortex.errors import BadRequest
from cortex.wire import inference
from cortex.wire.inference import InferenceRequest, Tool

__all__ = ["PromptRenderer", "template_tool"]

_SCHEMA_DEFAULTS: dict[str, dict[str, Any]] = {
    "array": {"items": {"type": "string"}},
    "object": {"additionalProperties": {"type": "string"}},
}
_CONTINUED = "\ue000continued\ue000"  # placeholder for the text to continue; clients send no private-use characters


@dataclass(frozen=True, slots=True)
class PromptRenderer:
    """Renders requests with `template`; `defaults` are the profile's template variables."""

    template: ChatTemplate
    capabilities: Capabilities
    defaults: Mapping[str, Any]

    def prompt(self, request: InferenceRequest, tools: Sequence[Tool]) -> str:
        """The prompt up to the assistant's turn. Raises BadRequest, with the template's own message if it refuses."""
        if not request.messages:
            raise BadRequest("messages must not be empty", param="messages")
        if request.continue_final:
            return self._continued(request, tools)
        return self._render(request.messages, request, tools, add_generation_prompt=True)

    def _render(
        self,
        messages: Sequence[inference.Message],
        request: InferenceRequest,
        tools: Sequence[Tool],
        *,
        add_generation_prompt: bool,
    ) -> str:
        """Render as the capabilities say; if the template refuses, with completed schemas; then also with the strictest
        history. The client gets the first refusal.
        """
        completed = [_completed(tool) for tool in tools]
        refusal: TemplateRejected | None = None
        attempts = ((self.capabilities, tools), (self.capabilities, completed), (STRICTEST, completed))
        for capabilities, shown in attempts:
            variables = self._variables(request, shown) | {"add_generation_prompt": add_generation_prompt}
            try:
                return self.template.render(variables | {"messages": adapt_history(messages, capabilities)})
            except TemplateRejected as error:
                refusal = refusal or error
        assert refusal is not None
        raise refusal

    def _variables(self, request: InferenceRequest, tools: Sequence[Tool]) -> dict[str, Any]:
        shown: list[Message] | None = [template_tool(tool) for tool in tools]
        if not shown and not self.capabilities.tools_always:
            shown = None
        variables: dict[str, Any] = {"tools": shown, self.capabilities.tools_variable: shown}
        return (
            variables
            | dict(self.defaults)
            | reasoning_variables(self.capabilities, request.reasoning)
            | request.template_kwargs
        )

    def _continued(self, request: InferenceRequest, tools: Sequence[Tool]) -> str:
        """The prompt up to the end of the last message's text, so that the model continues it."""
        last = request.messages[-1]
        if last.role != "assistant" or any(isinstance(part, inference.ToolCall) for part in last.parts):
            message = "only a final assistant message without tool calls can be continued"
            raise BadRequest(message, param="messages")
        text = "".join(part.text for part in last.parts if isinstance(part, inference.Text))
        kept = [part for part in last.parts if isinstance(part, inference.Thinking)]
        marked = inference.Message("assistant", [*kept, inference.Text(_CONTINUED)], name=last.name)
        messages = [*request.messages[:-1], marked]
        prompt, found, _ = self._render(messages, request, tools, add_generation_prompt=False).rpartition(_CONTINUED)
        if not found:
            raise BadRequest("the model's chat template can't continue an assistant message", param="messages")
        return prompt + text


def template_tool(tool: Tool) -> dict[str, Any]:
    """A tool declaration in the shape that chat templates read (OpenAI's)."""
    function = {"name": tool.name, "description": tool.description, "parameters": _object_schema(tool.parameters)}
    return {"type": "function", "function": function}


def _completed(tool: Tool) -> Tool:
    """`tool` with defaults in its schema: some templates read every property's type, description and items."""
    properties = {
        name: {**_SCHEMA_DEFAULTS.get(str(schema.get("type")), {}), "type": "string", "description": "", **schema}
        if isinstance(schema, dict)
        else schema
        for name, schema in (tool.parameters.get("properties") or {}).items()
    }
    return replace(tool, parameters={"required": [], **tool.parameters, "properties": properties})


def _object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy of `schema` with `type` and `properties`, which templates read without checking for them."""
    copied: dict[str, Any] = json.loads(json.dumps(schema))
    return {"type": "object", "properties": {}, **copied}
