"""The families of tool-call markup, one file each, in the order in which the probe asks them.

Order matters where one template's source contains another family's markers: the more peculiar family comes first.
"""

from __future__ import annotations

from cortex.engine.chat.formats.base import Evidence, ReasoningFormat, ToolFormat, Trigger
from cortex.engine.chat.formats.hermes import HERMES

__all__ = ["FAMILIES", "Evidence", "ReasoningFormat", "ToolFormat", "Trigger", "by_name"]

FAMILIES: tuple[ToolFormat, ...] = (HERMES,)


def by_name(name: str) -> ToolFormat | None:
    """The family that an operator named in a profile."""
    return next((family for family in FAMILIES if family.name == name), None)
