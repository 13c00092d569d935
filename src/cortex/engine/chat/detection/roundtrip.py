"""Feeds a rendered turn to the splitter, token by token, as if the model had sampled it."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field

from cortex.engine.chat.formats.base import ToolFormat
from cortex.engine.chat.splitting.markers import MarkerTable, ReasoningFormat
from cortex.engine.chat.splitting.splitter import MessageSplitter, SplitPlan
from cortex.engine.chat.types import Delta
from cortex.wire.events import ReasoningDelta, TextDelta, ToolCallArguments, ToolCallStart
from cortex.wire.inference import Tool

__all__ = ["Roundtrip", "run_roundtrip"]


@dataclass(slots=True)
class Roundtrip:
    """The splitter's result; `calls` are names and JSON texts of arguments, in order."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)

    def add(self, delta: Delta) -> None:
        """Append `delta`."""
        match delta:
            case TextDelta(text=text):
                self.text += text
            case ReasoningDelta(text=text):
                self.reasoning += text
            case ToolCallStart(name=name):
                self.calls.append((name, ""))
            case ToolCallArguments(index=index, fragment=fragment):
                name, arguments = self.calls[index]
                self.calls[index] = (name, arguments + fragment)


def run_roundtrip(
    output: str,
    markers: MarkerTable,
    reasoning: ReasoningFormat | None,
    tool_format: ToolFormat | None,
    tools: Sequence[Tool],
) -> Roundtrip:
    """Split `output`, which starts in reasoning if it closes some before opening any.

    Where a format frames every message, its parser recognises reasoning.
    """
    framed = tool_format is not None and tool_format.frames
    starts_in_reasoning = reasoning is not None and not framed and _closes_first(output, reasoning)
    splitter = MessageSplitter(SplitPlan(markers, reasoning, tool_format, tools, starts_in_reasoning))
    result = Roundtrip()
    vocabulary = markers.vocabulary
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in vocabulary.tokenize(output, special=True):
        for delta in splitter.feed(token, decoder.decode(vocabulary.piece(token))):
            result.add(delta)
    for delta in splitter.finish(cut=False):
        result.add(delta)
    return result


def _closes_first(output: str, reasoning: ReasoningFormat) -> bool:
    closing = output.find(reasoning.close)
    return closing >= 0 and reasoning.open not in output[:closing]
