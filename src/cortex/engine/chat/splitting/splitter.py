"""Splits one choice's tokens into reasoning, text and tool calls as they arrive.

The splitter is in one of three states. Reasoning ends at its first closing marker; text ends at an opening marker or
a tool trigger; a tool-call block is read by the format's parser until it returns or raises Malformed. When a block
turns out not to be a call, its trigger is emitted as plain text in the state before it, and what followed the trigger
is scanned again. A tool call inside unclosed reasoning therefore closes it, and a mention of the marker doesn't.
Markup that a limit cut short is dropped: half a marker or the beginning of a call means nothing to a reader.

Whitespace between segments is dropped: the template put it there, and will put it there again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cortex.engine.chat.formats.base import ToolFormat
from cortex.engine.chat.splitting.marker_scanner import MarkerKind, MarkerScanner
from cortex.engine.chat.splitting.markers import MarkerTable, ReasoningFormat, is_encoded
from cortex.engine.chat.splitting.reader import EndOfInput, Malformed, Reader, Reading
from cortex.engine.chat.splitting.segment import Segment
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.chat.types import Delta
from cortex.wire.inference import Tool

__all__ = ["MessageSplitter", "SplitPlan"]


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How one request's output is split; shared by its choices.

    `offered` are the tools that a call may name; without any, only a format that also frames plain answers is parsed.
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
        """The format whose blocks are parsed, if any."""
        tool_format = self.tool_format
        return tool_format if tool_format is not None and (self.offered or tool_format.frames) else None


@dataclass(frozen=True, slots=True)
class _Block:
    """A tool-call block being parsed. `emitted_before`: the emitter's count of deltas when it began."""

    format: ToolFormat
    trigger: str
    reader: Reader
    parsing: Reading[None]
    emitted_before: int


class MessageSplitter:
    """Implements `engine.chat.types.Splitter`."""

    def __init__(self, plan: SplitPlan, choice: int = 0) -> None:
        active_format = plan.active_format
        self._plan = plan
        self._markers = plan.markers
        self._scanner = MarkerScanner(plan.markers, plan.reasoning, plan.tool_format, active_format)
        self._emitter = ToolCallEmitter(choice, {tool.name: tool for tool in plan.offered})
        self._segment = Segment(
            self._emitter,
            plan.markers,
            holds_whitespace=active_format is not None or plan.reasoning is not None,
            shows_control=active_format is not None and not active_format.frames,
        )
        self._rest = ""  # encoded; not scanned yet, or held back as the possible beginning of a marker
        self._ended = False
        self._cut = False
        self._block: _Block | None = None
        self._in_reasoning = plan.starts_in_reasoning and plan.reasoning is not None
        self._unparsed = 0
        self._segment.begin(reasoning=self._in_reasoning, after_another=False)

    # ---- the Splitter protocol

    def feed(self, token: int, text: str) -> Sequence[Delta]:
        unit = self._markers.unit(token, text)
        if not unit:
            return ()
        self._rest += unit
        self._advance()
        return self._emitter.take()

    def finish(self, *, cut: bool) -> Sequence[Delta]:
        self._ended, self._cut = True, cut
        self._advance()
        self._segment.finish()
        return self._emitter.take()

    @property
    def in_reasoning(self) -> bool:
        if self._block is not None:
            return self._block.format.frames and self._emitter.in_reasoning
        return self._in_reasoning

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
                # A marker in open reasoning may only be mentioned; the grammar would force it to become a call.
                return self._block is not None and not self._in_reasoning

    @property
    def unparsed_calls(self) -> int:
        return self._unparsed

    def end_reasoning(self) -> list[int]:
        reasoning = self._plan.reasoning
        if reasoning is None or not self.in_reasoning:
            return []
        return self._markers.vocabulary.tokenize(reasoning.close + reasoning.next + reasoning.answer, special=True)

    # ---- the state machine

    def _advance(self) -> None:
        while self._run_block() if self._block is not None else self._scan():
            pass

    def _scan(self) -> bool:
        """Process text or reasoning up to the next marker; False when more input is needed."""
        found = self._scanner.first(
            self._rest, self._in_reasoning, at_start=self._segment.is_blank, ended=self._ended, cut=self._cut
        )
        self._segment.add(self._rest[: found.position])
        self._rest = self._rest[found.position :]
        match found.kind:
            case None:
                return False
            case MarkerKind.TRIGGER:
                self._open_block(found.marker)
            case MarkerKind.WRAPPER:
                self._scanner.toggle_wrapper(found.marker)
                self._begin(reasoning=False, skip=found.marker)
            case MarkerKind.REASONING_OPEN | MarkerKind.REASONING_CLOSE:
                self._begin(reasoning=found.kind is MarkerKind.REASONING_OPEN, skip=found.marker)
        return True

    def _begin(self, *, reasoning: bool, skip: str = "") -> None:
        """Start the next segment after the marker `skip`."""
        self._rest = self._rest[len(skip) :]
        self._in_reasoning = reasoning
        self._segment.begin(reasoning=reasoning, after_another=True)

    def _open_block(self, trigger: str) -> None:
        active_format = self._plan.active_format
        assert active_format is not None
        reader = Reader(self._markers)
        reader.certain = len(trigger) > 1 or is_encoded(trigger)
        self._emitter.attach(reader)
        parsing = active_format.parse(reader, self._emitter)
        self._block = _Block(active_format, trigger, reader, parsing, self._emitter.emitted)

    def _run_block(self) -> bool:
        """Resume the format's parser; False when it needs more input."""
        block = self._block
        assert block is not None
        block.reader.push(self._rest)
        block.reader.ended, block.reader.cut = self._ended, self._cut
        self._rest = ""
        try:
            next(block.parsing)
        except StopIteration:
            self._close_block(block, broken=False, cut=False)
        except EndOfInput:
            self._close_block(block, broken=True, cut=self._cut)
        except Malformed:
            self._close_block(block, broken=True, cut=False)
        else:
            return False
        return True

    def _close_block(self, block: _Block, *, broken: bool, cut: bool) -> None:
        """Continue with text; or, if the block emitted nothing, return to the state before it."""
        self._emitter.abandon(cut=cut)
        self._emitter.attach(None)
        self._block = None
        self._rest = block.reader.pending if broken else block.reader.unread
        if cut and (block.reader.certain or self._emitter.emitted > block.emitted_before):
            self._begin(reasoning=False, skip=self._rest)
            return
        if not broken or self._emitter.emitted > block.emitted_before:
            self._begin(reasoning=False)
            return
        self._unparsed += bool(block.trigger)
        size = max(1, len(block.trigger))  # the trigger of a format without a marker is empty
        self._segment.add(self._rest[:size])
        self._rest = self._rest[size:]
