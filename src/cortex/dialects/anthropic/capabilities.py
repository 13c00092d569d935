"""A model's capabilities in Anthropic's model list: one object per capability, every key always present.

After anthropic's Python SDK 2.12 (`types/model_capabilities.py`). Features of Anthropic's own servers are unsupported.
"""

from __future__ import annotations

from msgspec import Struct

from cortex.wire.status import Capabilities

__all__ = ["AnthropicCapabilities"]


class Support(Struct, frozen=True):
    supported: bool


class EffortSupport(Struct, frozen=True):
    """Every level is accepted; the nearest one that the chat template knows is used."""

    supported: bool
    low: Support
    medium: Support
    high: Support
    xhigh: Support
    max: Support


class ThinkingTypeSupport(Struct, frozen=True):
    """Which values of `thinking.type` are accepted. Those that switch thinking off always are."""

    adaptive: Support
    enabled: Support
    between_tools: Support = Support(True)
    disabled: Support = Support(True)


class ThinkingSupport(Struct, frozen=True):
    supported: bool
    types: ThinkingTypeSupport


class ServerToolSupport(Struct, frozen=True):
    supported: bool = False
    code_execution: Support = Support(False)
    web_search: Support = Support(False)


class AnthropicCapabilities(Struct, frozen=True):
    image_input: Support
    structured_outputs: Support
    effort: EffortSupport
    thinking: ThinkingSupport
    batch: Support = Support(False)
    citations: Support = Support(False)
    code_execution: Support = Support(False)
    context_management: Support = Support(False)
    pdf_input: Support = Support(False)
    server_tools: ServerToolSupport = ServerToolSupport()

    @classmethod
    def of(cls, capabilities: Capabilities) -> AnthropicCapabilities:
        reasoning = Support(capabilities.reasoning)
        return cls(
            image_input=Support(capabilities.vision),
            structured_outputs=Support(capabilities.chat),
            effort=EffortSupport(capabilities.reasoning, reasoning, reasoning, reasoning, reasoning, reasoning),
            thinking=ThinkingSupport(capabilities.reasoning, ThinkingTypeSupport(reasoning, reasoning)),
        )
