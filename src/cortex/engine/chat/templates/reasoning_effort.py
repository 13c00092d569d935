"""How much a request wants its model to think, in the words of one template."""

from __future__ import annotations

from typing import Any

from cortex.engine.chat.detection.capabilities import EFFORTS, Capabilities
from cortex.wire.inference import Reasoning

__all__ = ["thinking_variables", "thinks_not"]


def thinks_not(wanted: Reasoning) -> bool:
    """Whether no thinking is wanted, in any of the three ways to say so."""
    return wanted.mode == "off" or wanted.effort == "none" or wanted.budget == 0


def thinking_variables(takes: Capabilities, wanted: Reasoning) -> dict[str, Any]:
    """Template variables for `wanted`; what the template has no word for is left out.

    A template with levels but no switch is turned on by a middle level.
    """
    off = thinks_not(wanted)
    on = not off and (wanted.mode == "on" or wanted.effort is not None)
    said: dict[str, Any] = {}
    if takes.thinking_switch and (on or off):
        said[takes.thinking_switch] = on
    effort = "none" if off else wanted.effort or ("medium" if on and not takes.thinking_switch else None)
    if takes.effort_variable and effort and (nearest := _nearest(effort, takes.efforts)):
        said[takes.effort_variable] = nearest
    return said


def _nearest(effort: str, accepted: tuple[str, ...]) -> str | None:
    """The accepted effort closest to the one asked for; of two equally close the lower."""
    if effort in accepted or effort not in EFFORTS or not accepted:
        return effort if effort in accepted else None
    wanted = EFFORTS.index(effort)
    return min(accepted, key=lambda level: (abs(EFFORTS.index(level) - wanted), EFFORTS.index(level)))
