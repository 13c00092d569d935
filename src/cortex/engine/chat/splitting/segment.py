"""Whitespace at the edges of reasoning and text."""

from __future__ import annotations

from cortex.engine.chat.splitting.markers import MarkerTable
from cortex.engine.chat.splitting.reader import WHITESPACE
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter

__all__ = ["Segment"]


class Segment:
    """One run of text or reasoning on its way to the emitter; whitespace is emitted only once something follows it.

    Whitespace before the first segment is the model's own text and is kept if the segment isn't blank. With
    `holds_whitespace` false nothing can end a segment early, so whitespace is emitted at once. `shows_control`: the
    format's special tokens that are control tokens are emitted as text where they mean nothing (a broken tool call
    stays complete); otherwise they are dropped.
    """

    def __init__(
        self, emitter: ToolCallEmitter, markers: MarkerTable, *, holds_whitespace: bool, shows_control: bool
    ) -> None:
        self._emitter = emitter
        self._markers = markers
        self._holds_whitespace = holds_whitespace
        self._shows_control = shows_control
        self._reasoning = False
        self._trims_start = False
        self._held = ""
        self.is_blank = True  # nothing but whitespace so far

    def begin(self, *, reasoning: bool, after_another: bool) -> None:
        """Start a new segment; whitespace that the last one still held is dropped."""
        self._reasoning = reasoning
        self._trims_start = reasoning or after_another
        self._held = ""
        self.is_blank = True

    def add(self, text: str) -> None:
        """Add encoded text."""
        shown = self._held + self._markers.decode(text, control=self._shows_control)
        body = shown.rstrip(WHITESPACE) if self._holds_whitespace else shown
        self._held = shown[len(body) :]
        if body:
            self._pass(body)

    def finish(self) -> None:
        """The output ends: trailing whitespace is part of the text, unless there is nothing else."""
        if self._held and not (self.is_blank and self._trims_start):
            self._pass(self._held)
        self._held = ""

    def _pass(self, body: str) -> None:
        if self.is_blank and self._trims_start:
            body = body.lstrip(WHITESPACE)
        self.is_blank = self.is_blank and not body.strip(WHITESPACE)
        if self._reasoning:
            self._emitter.reasoning(body)
        else:
            self._emitter.text(body)
