"""The blanks at the edges of reasoning and text."""

from __future__ import annotations

from cortex.engine.chat.splitting.markers import MarkerTable
from cortex.engine.chat.splitting.reader import BLANK
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter

__all__ = ["Segment"]


class Segment:
    """Passes plain text on to the sink, blanks only once something follows them in the same segment.

    Blanks before the first segment are the model's own text and are kept if the segment comes to more. With
    `holds_blanks` false nothing can end a segment early, so they needn't wait. `shows_control`: the format's markers
    that are control tokens are text where they mean nothing (a broken tool call stays whole); else they vanish.
    """

    def __init__(self, sink: ToolCallEmitter, markers: MarkerTable, *, holds_blanks: bool, shows_control: bool) -> None:
        self._sink = sink
        self._markers = markers
        self._holds_blanks = holds_blanks
        self._shows_control = shows_control
        self._reasoning = False
        self._trims_start = False
        self._blanks = ""
        self.is_blank = True

    def begin(self, *, reasoning: bool, after_another: bool) -> None:
        """Start a new segment; what the last one still held is dropped."""
        self._reasoning = reasoning
        self._trims_start = reasoning or after_another
        self._blanks = ""
        self.is_blank = True

    def add(self, text: str) -> None:
        shown = self._blanks + self._markers.decode(text, control=self._shows_control)
        body = shown.rstrip(BLANK) if self._holds_blanks else shown
        self._blanks = shown[len(body) :]
        if body:
            self._pass(body)

    def finish(self) -> None:
        """The output ends: trailing blanks are part of the text, unless there is nothing else."""
        if self._blanks and not (self.is_blank and self._trims_start):
            self._pass(self._blanks)
        self._blanks = ""

    def _pass(self, body: str) -> None:
        if self.is_blank and self._trims_start:
            body = body.lstrip(BLANK)
        self.is_blank = self.is_blank and not body.strip(BLANK)
        if self._reasoning:
            self._sink.reasoning(body)
        else:
            self._sink.text(body)
