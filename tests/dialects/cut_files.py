"""A tool that writes a file, and answers that were cut inside a call of it."""

from __future__ import annotations

from cortex.wire.events import ChoiceFinished, Finished, Started, ToolCallArguments, ToolCallEnd, ToolCallStart
from tests.dialects.scripts import Script

__all__ = ["CUTS", "Disk", "write_cut"]


class Disk:
    """A tool whose only argument is optional: half of its JSON, if closed, would be valid input."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write_file(self, text: str = "") -> str:
        """Writes a file."""
        self.written.append(text)
        return "written"


def write_cut(arguments: str) -> Script:
    call = (ToolCallStart(0, "call_1", "write_file"), ToolCallArguments(0, arguments), ToolCallEnd(0, complete=False))
    return Script("write", ((Started(9),), call, (ChoiceFinished("length"), Finished())), offered=("write_file",))


CUTS = ['{"text": "half of i', '{"te', "{", '{"text": "all of it"']
