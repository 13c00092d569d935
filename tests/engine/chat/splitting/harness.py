"""Feeding a splitter and reading what comes out, without the ids that differ from run to run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cortex.engine.chat.formats.base import ToolFormat
from cortex.engine.chat.splitting.markers import MarkerTable, ReasoningFormat
from cortex.engine.chat.splitting.splitter import MessageSplitter, SplitPlan
from cortex.engine.chat.types import Delta
from cortex.wire.events import ReasoningDelta, TextDelta, ToolCallArguments, ToolCallEnd, ToolCallStart
from cortex.wire.inference import Tool
from tests.engine.chat.fake_vocabulary import FakeVocabulary

THINK = ReasoningFormat(name="think", open="<think>", close="</think>")
ANYTHING = Tool(name="f", parameters={"type": "object"})


@dataclass
class Outcome:
    """Merged segments in order: ("text", …), ("reasoning", …), ("call", name, arguments) or ("cut call", name,
    arguments)."""

    segments: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(segment[1] for segment in self.segments if segment[0] == "text")

    @property
    def reasoning(self) -> str:
        return "".join(segment[1] for segment in self.segments if segment[0] == "reasoning")

    @property
    def calls(self) -> list[tuple[str, str]]:
        return [(segment[1], segment[2]) for segment in self.segments if segment[0] == "call"]


def merged(deltas: Iterable[Delta]) -> Outcome:
    """The segments of a delta stream; asserts the order that `wire.events` promises."""
    outcome = Outcome()
    open_call: int | None = None
    calls = 0
    for delta in deltas:
        match delta:
            case ToolCallStart(index=index, name=name):
                assert open_call is None
                assert index == calls
                open_call, calls = index, calls + 1
                outcome.segments.append(("call", name, ""))
            case ToolCallArguments(index=index, fragment=fragment):
                assert index == open_call
                _, name, arguments = outcome.segments.pop()
                outcome.segments.append(("call", name, arguments + fragment))
            case ToolCallEnd(index=index, complete=complete):
                assert index == open_call
                open_call = None
                _, name, arguments = outcome.segments[-1]
                if not complete:
                    assert arguments
                    outcome.segments[-1] = ("cut call", name, arguments)
                assert is_json(arguments) in (complete, None)
            case TextDelta(text=text) | ReasoningDelta(text=text):
                assert open_call is None
                kind = "text" if isinstance(delta, TextDelta) else "reasoning"
                if outcome.segments and outcome.segments[-1][0] == kind:
                    text = outcome.segments.pop()[1] + text
                outcome.segments.append((kind, text))
    assert open_call is None
    return outcome


def is_json(text: str) -> bool | None:
    """Whether `text` is JSON; None if it nests too deeply for Python to tell."""
    try:
        json.loads(text, parse_int=str)
    except ValueError:
        return False
    except RecursionError:
        return None
    return True


def make_plan(
    form: ToolFormat | None = None,
    *,
    tools: Sequence[Tool] = (ANYTHING,),
    reasoning: ReasoningFormat | None = None,
    vocabulary: FakeVocabulary | None = None,
    starts_in_reasoning: bool = False,
) -> SplitPlan:
    markers = MarkerTable(vocabulary or FakeVocabulary(), reasoning, form)
    return SplitPlan(markers, reasoning, form, tuple(tools), starts_in_reasoning)


def split(plan: SplitPlan, text: str, *, sizes: Iterable[int] | None = None, cut: bool = False) -> Outcome:
    """What becomes of `text`, fed token by token; with `sizes`, ordinary characters in groups of these many. `cut`: a
    limit ended it."""
    splitter = MessageSplitter(plan)
    deltas: list[Delta] = []
    for token, piece in _grouped(plan, text, sizes):
        deltas += splitter.feed(token, piece)
    deltas += splitter.finish(cut=cut)
    return merged(deltas)


def _grouped(plan: SplitPlan, text: str, sizes: Iterable[int] | None) -> Iterable[tuple[int, str]]:
    """Tokens with their texts. A group of ordinary characters goes by the id of its first."""
    vocabulary = plan.markers.vocabulary
    remaining = iter(sizes or ())
    room, held, first = next(remaining, 1), "", 0
    for token in vocabulary.tokenize(text):
        piece = vocabulary.piece(token).decode()
        if token >= 0x200000:
            if held:
                yield first, held
            held = ""
            yield token, piece
            continue
        first = first if held else token
        held += piece
        if len(held) >= room:
            yield first, held
            held, room = "", next(remaining, room)
    if held:
        yield first, held
