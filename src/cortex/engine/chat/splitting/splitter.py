"""One choice's tokens taken apart: reasoning, text and tool calls, as they arrive.

The splitter is in one of three states. Reasoning ends at its close marker, only the first of which counts; text ends
at an opening marker or a tool trigger; a block belongs to the tool format's parser until it returns or breaks. A block
that is no call is put back where it came from, its trigger as plain text, and what followed the trigger is looked at
anew. So a tool call inside unclosed reasoning closes it, while a mere mention of the marker changes nothing.

Blanks between segments belong to no segment: templates put them there and would put them there again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cortex.engine.chat.formats.base import ReasoningFormat, Steps, ToolFormat
from cortex.engine.chat.splitting.marker_scanner import Mark, MarkerScanner
from cortex.engine.chat.splitting.markers import MarkerTable
from cortex.engine.chat.splitting.reader import Malformed, Reader
from cortex.engine.chat.splitting.segment import Segment
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.chat.types import Delta
from cortex.wire.inference import Tool

__all__ = ["MessageSplitter", "SplitPlan"]


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How one request's output is taken apart; shared by its choices.

    `offered` are the tools a call may name; with none, and a format that frames nothing else, no call is looked for.
    `constraint_start` repeats the request's `ConstraintSpec.start`.
    """

    markers: MarkerTable
    reasoning: ReasoningFormat | None = None
    tool_format: ToolFormat | None = None
    offered: Sequence[Tool] = ()
    starts_in_reasoning: bool = False
    constraint_start: Literal["now", "after_reasoning", "on_tool_marker"] | None = None

    @property
    def active_format(self) -> ToolFormat | None:
        form = self.tool_format
        return form if form is not None and (self.offered or form.frames) else None


@dataclass(frozen=True, slots=True)
class _Block:
    """A tool-call block being parsed; `emitted_before` tells whether anything came of it."""

    format: ToolFormat
    trigger: str
    reader: Reader
    steps: Steps
    emitted_before: int


class MessageSplitter:
    """Implements `engine.chat.types.Splitter`."""

    def __init__(self, plan: SplitPlan, choice: int = 0) -> None:
        form = plan.active_format
        self._plan = plan
        self._markers = plan.markers
        self._watch = MarkerScanner(plan.markers, plan.reasoning, plan.tool_format, form)
        self._sink = ToolCallEmitter(choice, {tool.name: tool for tool in plan.offered})
        self._segment = Segment(
            self._sink,
            plan.markers,
            holds_blanks=form is not None or plan.reasoning is not None,
            shows_control=form is not None and not form.frames,
        )
        self._rest = ""  # encoded, not yet looked at or held back
        self._ended = False
        self._block: _Block | None = None
        self._in_thought = plan.starts_in_reasoning and plan.reasoning is not None
        self._unparsed = 0
        self._segment.begin(reasoning=self._in_thought, after_another=False)

    # ---- the protocol

    def feed(self, token: int, text: str) -> Sequence[Delta]:
        unit = self._markers.unit(token, text)
        if not unit:
            return ()
        self._rest += unit
        self._advance()
        return self._sink.take()

    def finish(self, *, cut: bool) -> Sequence[Delta]:
        del cut  # what is incomplete is treated alike whether the model or a limit ended it
        self._ended = True
        self._advance()
        self._segment.finish()
        return self._sink.take()

    @property
    def in_reasoning(self) -> bool:
        if self._block is not None:
            return self._block.format.frames and self._sink.in_reasoning
        return self._in_thought

    @property
    def constrained(self) -> bool:
        match self._plan.constraint_start:
            case None:
                return False
            case "now":
                return True
            case "after_reasoning":
                return not self.in_reasoning
            case "on_tool_marker":
                # A marker in open reasoning may be a mere mention, which mustn't be forced to become a call.
                return self._block is not None and not self._in_thought

    @property
    def tool_calls(self) -> int:
        return self._sink.calls

    @property
    def unparsed_calls(self) -> int:
        return self._unparsed

    def end_reasoning(self) -> list[int]:
        reasoning = self._plan.reasoning
        if reasoning is None or not self.in_reasoning:
            return []
        return self._markers.vocabulary.tokenize(reasoning.close + reasoning.next + reasoning.answer, special=True)

    # ---- the machine

    def _advance(self) -> None:
        while self._run_block() if self._block is not None else self._scan():
            pass

    def _scan(self) -> bool:
        """One move through plain text or reasoning; False when more input is needed."""
        found = self._watch.first(self._rest, self._in_thought, at_start=self._segment.is_blank, ended=self._ended)
        self._segment.add(self._rest[: found.place])
        self._rest = self._rest[found.place :]
        match found.mark:
            case None:
                return False
            case Mark.TRIGGER:
                self._open_block(found.marker)
            case Mark.WRAPPER:
                self._watch.wrap(found.marker)
                self._begin(reasoning=False, skip=found.marker)
            case Mark.OPEN | Mark.CLOSE:
                self._begin(reasoning=found.mark is Mark.OPEN, skip=found.marker)
        return True

    def _begin(self, *, reasoning: bool, skip: str = "") -> None:
        """Start the next segment behind the marker `skip`."""
        self._rest = self._rest[len(skip) :]
        self._in_thought = reasoning
        self._segment.begin(reasoning=reasoning, after_another=True)

    def _open_block(self, trigger: str) -> None:
        form = self._plan.active_format
        assert form is not None
        reader = Reader(self._markers)
        self._sink.attach(reader)
        self._block = _Block(form, trigger, reader, form.parse(reader, self._sink), self._sink.emitted)

    def _run_block(self) -> bool:
        """Let the format's parser go on; False when it needs more input."""
        block = self._block
        assert block is not None
        block.reader.push(self._rest)
        block.reader.ended = self._ended
        self._rest = ""
        try:
            next(block.steps)
        except StopIteration:
            self._close_block(block, broken=False)
        except Malformed:
            self._close_block(block, broken=True)
        else:
            return False
        return True

    def _close_block(self, block: _Block, *, broken: bool) -> None:
        """On to text; or, if nothing came of the block, back to where it began."""
        self._sink.abandon()
        self._sink.attach(None)
        self._block = None
        self._rest = block.reader.pending if broken else block.reader.unread
        if not broken or self._sink.emitted > block.emitted_before:
            self._begin(reasoning=False)
            return
        self._unparsed += bool(block.trigger)
        size = max(1, len(block.trigger))  # a format that needs no marker has an empty trigger
        self._segment.add(self._rest[:size])
        self._rest = self._rest[size:]
