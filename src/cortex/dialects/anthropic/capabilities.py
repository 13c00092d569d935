"""A model's abilities as Anthropic's model list tells them: one object per ability, every key always there.

After anthropic's Python SDK 2.12 (`types/model_capabilities.py`). What only Anthropic's own servers do is unsupported.
"""

from __future__ import annotations

from msgspec import Struct

from cortex.wire.status import Capabilities

__all__ = ["AnthropicCapabilities"]


class Support(Struct, frozen=True):
    supported: bool


class Effort(Struct, frozen=True):
    """Every level is accepted; the template's nearest one is used."""

    supported: bool
    low: Support
    medium: Support
    high: Support
    xhigh: Support
    max: Support


class ThinkingTypes(Struct, frozen=True):
    """Which `thinking.type` values are no 400: those that switch thinking off never are."""

    adaptive: Support
    enabled: Support
    between_tools: Support = Support(True)
    disabled: Support = Support(True)


class ThinkingAbility(Struct, frozen=True):
    supported: bool
    types: ThinkingTypes


class ServerTools(Struct, frozen=True):
    supported: bool = False
    code_execution: Support = Support(False)
    web_search: Support = Support(False)


class AnthropicCapabilities(Struct, frozen=True):
    image_input: Support
    structured_outputs: Support
    effort: Effort
    thinking: ThinkingAbility
    batch: Support = Support(False)
    citations: Support = Support(False)
    code_execution: Support = Support(False)
    context_management: Support = Support(False)
    pdf_input: Support = Support(False)
    server_tools: ServerTools = ServerTools()

    @classmethod
    def of(cls, capabilities: Capabilities) -> AnthropicCapabilities:
        thinks = Support(capabilities.reasoning)
        return cls(
            image_input=Support(capabilities.vision),
            structured_outputs=Support(capabilities.chat),
            effort=Effort(capabilities.reasoning, thinks, thinks, thinks, thinks, thinks),
            thinking=ThinkingAbility(capabilities.reasoning, ThinkingTypes(thinks, thinks)),
        )
