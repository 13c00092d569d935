"""Whether and how much a model reasons, from the fields that clients use for it (named in `fields`)."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from cortex.dialects.fields import MAX_INT, GenerationBody, ReasoningSettings, ThinkingConfig
from cortex.errors import BadRequest
from cortex.wire.inference import Reasoning

__all__ = ["reasoning_of"]

_TEMPLATE_SWITCHES = ("enable_thinking", "thinking", "reasoning", "enable_reasoning")
"""The names of the switch in chat templates (Qwen, GLM; DeepSeek, Granite, Kimi; others)."""
_UNSAID = Reasoning()
_values = attrgetter(
    "reasoning_effort",
    "reasoning",
    "thinking",
    "enable_thinking",
    "think",
    "chat_template_kwargs",
    "output_config",
    "reasoning_budget_tokens",
    "thinking_budget_tokens",
    "thinking_budget",
    "thinking_token_budget",
)
"""All fields that this module reads; most requests have none of them."""
_NOTHING = (None,) * 11
_OFF = ("none", "off", "disabled")


def reasoning_of(body: GenerationBody) -> Reasoning:
    """The reasoning settings. Budgets in tokens; a negative one means no budget.

    Reasoning is off if any field says so: a switch, the effort "none", a budget of 0. Clients send an effort by
    default, so a switch that contradicts it is the user's. Raises BadRequest for a template's `enable_thinking` that
    isn't a boolean: templates treat the string "false" as true.
    """
    if _values(body) == _NOTHING:
        return _UNSAID
    switches = [switch for switch in _switches(body) if switch is not None]
    efforts = [effort for effort in _efforts(body) if effort]
    budgets = [budget for budget in _budgets(body) if budget is not None]
    if False in switches or any(effort in _OFF for effort in efforts) or 0 in budgets:
        return Reasoning(mode="off")
    budget = min(budgets[0], MAX_INT) if budgets and budgets[0] > 0 else None
    if efforts or budget or True in switches:
        return Reasoning("on", efforts[0] if efforts else _output_effort(body), budget)
    return Reasoning(effort=_output_effort(body))


def _switches(body: GenerationBody) -> list[bool | None]:
    settings = body.reasoning
    return [
        body.enable_thinking,
        body.think if isinstance(body.think, bool) else None,
        _thinking_switch(body.thinking),
        settings.enabled if isinstance(settings, ReasoningSettings) else None,
        settings if isinstance(settings, bool) else None,
        *_template_switches(body.chat_template_kwargs or {}),
    ]


def _thinking_switch(thinking: ThinkingConfig | bool | None) -> bool | None:
    """`between_tools` (progress notes between calls) counts as off; `adaptive` and unknown types leave the decision to
    the model."""
    if not isinstance(thinking, ThinkingConfig):
        return thinking
    return {"enabled": True, "disabled": False, "between_tools": False}.get(thinking.type)


def _template_switches(variables: dict[str, Any]) -> list[bool]:
    switch = variables.get("enable_thinking")
    if switch is not None and not isinstance(switch, bool):
        param = "chat_template_kwargs.enable_thinking"
        raise BadRequest(f"{param} must be true or false, not {switch!r}", param=param)
    return [value for name in _TEMPLATE_SWITCHES if isinstance(value := variables.get(name), bool)]


def _efforts(body: GenerationBody) -> list[str | None]:
    settings = body.reasoning
    variable = (body.chat_template_kwargs or {}).get("reasoning_effort")
    return [
        body.reasoning_effort,
        settings.effort if isinstance(settings, ReasoningSettings) else None,
        settings if isinstance(settings, str) else None,
        body.think if isinstance(body.think, str) else None,
        variable if isinstance(variable, str) else None,
    ]


def _output_effort(body: GenerationBody) -> str | None:
    """Anthropic's effort, which is about the whole answer and doesn't ask for reasoning."""
    return body.output_config.effort if body.output_config else None


def _budgets(body: GenerationBody) -> list[int | None]:
    return [
        body.reasoning_budget_tokens,
        body.thinking_budget_tokens,
        body.thinking_budget,
        body.thinking_token_budget,
        body.reasoning.max_tokens if isinstance(body.reasoning, ReasoningSettings) else None,
        body.thinking.budget_tokens if isinstance(body.thinking, ThinkingConfig) else None,
    ]
