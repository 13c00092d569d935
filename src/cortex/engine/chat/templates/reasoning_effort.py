"""The reasoning that a request asks for, as the variables of one template."""

from __future__ import annotations

from typing import Any

from cortex.engine.chat.templates.capabilities import EFFORTS, Capabilities
from cortex.wire.inference import Reasoning

__all__ = ["reasoning_disabled", "reasoning_variables"]


def reasoning_disabled(wanted: Reasoning) -> bool:
    """Whether the request turns reasoning off: by mode, by effort, or by a budget of 0 tokens."""
    return wanted.mode == "off" or wanted.effort == "none" or wanted.budget == 0


def reasoning_variables(capabilities: Capabilities, wanted: Reasoning) -> dict[str, Any]:
    """Template variables for `wanted`; what the template has no variable for is left out.

    A template with efforts but no switch gets the effort `medium` when reasoning is turned on.
    """
    off = reasoning_disabled(wanted)
    on = not off and (wanted.mode == "on" or wanted.effort is not None)
    variables: dict[str, Any] = {}
    if capabilities.thinking_switch and (on or off):
        variables[capabilities.thinking_switch] = on
    effort = "none" if off else wanted.effort or ("medium" if on and not capabilities.thinking_switch else None)
    if capabilities.effort_variable and effort and (nearest := _nearest(effort, capabilities.efforts)):
        variables[capabilities.effort_variable] = nearest
    return variables


def _nearest(effort: str, accepted: tuple[str, ...]) -> str | None:
    """The accepted effort closest to the one asked for; of two equally close the lower."""
    if effort in accepted or effort not in EFFORTS or not accepted:
        return effort if effort in accepted else None
    wanted = EFFORTS.index(effort)
    return min(accepted, key=lambda other: (abs(EFFORTS.index(other) - wanted), EFFORTS.index(other)))
