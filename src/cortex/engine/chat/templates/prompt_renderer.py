"""From a chat request to its prompt: one template, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from cortex.engine.chat.detection.capabilities import STRICTEST, Capabilities, probe_capabilities
from cortex.engine.chat.detection.probe_messages import Message
from cortex.engine.chat.templates.history import normalise
from cortex.engine.chat.templates.reasoning_effort import thinking_variables
from cortex.engine.chat.templates.template import ChatTemplate, TemplateRejected
from cortex.errors import BadRequest
from cortex.wire import inference
from cortex.wire.inference import InferenceRequest, Tool

__all__ = ["PromptRenderer", "template_tool"]

_UNSAID: dict[str, dict[str, Any]] = {
    "array": {"items": {"type": "string"}},
    "object": {"additionalProperties": {"type": "string"}},
}
_CONTINUED = "\ue000continued\ue000"  # stands for the text to go on with; nobody sends private-use characters


@dataclass(frozen=True, slots=True)
class PromptRenderer:
    """Renders requests with `template`; `defaults` are the profile's template variables."""

    template: ChatTemplate
    takes: Capabilities
    defaults: Mapping[str, Any]

    @classmethod
    def probed(cls, template: ChatTemplate, defaults: Mapping[str, Any]) -> PromptRenderer:
        return cls(template, probe_capabilities(template), dict(defaults))

    def prompt(self, request: InferenceRequest, tools: Sequence[Tool]) -> str:
        """The prompt that the assistant's turn follows. Raises BadRequest with what the template says."""
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
        """As the template's capabilities say; if it refuses even so, with less and less in it that could offend.

        The refusal that the client sees is the first one.
        """
        plainer = [_described(tool) for tool in tools]
        refusal: TemplateRejected | None = None
        for takes, shown in ((self.takes, tools), (self.takes, plainer), (STRICTEST, plainer)):
            variables = self._variables(request, shown) | {"add_generation_prompt": add_generation_prompt}
            try:
                return self.template.render(variables | {"messages": normalise(messages, takes)})
            except TemplateRejected as error:
                refusal = refusal or error
        assert refusal is not None
        raise refusal

    def _variables(self, request: InferenceRequest, tools: Sequence[Tool]) -> dict[str, Any]:
        shown: list[Message] | None = [template_tool(tool) for tool in tools]
        if not shown and not self.takes.tools_always:
            shown = None
        variables: dict[str, Any] = {"tools": shown, self.takes.tools_variable: shown}
        return (
            variables
            | dict(self.defaults)
            | thinking_variables(self.takes, request.reasoning)
            | request.template_kwargs
        )

    def _continued(self, request: InferenceRequest, tools: Sequence[Tool]) -> str:
        """The prompt up to the end of the last message's text, so that the model goes on from there."""
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
    """A tool as chat templates read it."""
    function = {"name": tool.name, "description": tool.description, "parameters": _copied(tool.parameters)}
    return {"type": "function", "function": function}


def _described(tool: Tool) -> Tool:
    """`tool` with what its schema leaves unsaid: some templates read every property's type, description and items."""
    properties = {
        name: {**_UNSAID.get(str(schema.get("type")), {}), "type": "string", "description": "", **schema}
        if isinstance(schema, dict)
        else schema
        for name, schema in (tool.parameters.get("properties") or {}).items()
    }
    return replace(tool, parameters={"required": [], **tool.parameters, "properties": properties})


def _copied(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema object whatever the client left out: templates look for `properties` without asking."""
    copied: dict[str, Any] = json.loads(json.dumps(schema))
    return {"type": "object", "properties": {}, **copied}
