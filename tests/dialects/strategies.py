"""Arbitrary valid event streams, by the invariants of `wire.events`."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import strategies as st

from cortex.wire.events import (
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    FinishReason,
    Progress,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)
from tests.dialects.scripts import SILENCE, Batch, Script, Silence

__all__ = ["broken_scripts", "scripts", "text_scripts"]

TOOLS = ("get_weather", "get_time", "apply_patch")

_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
_json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | _text,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(_text, children, max_size=3),
    max_leaves=6,
)


@st.composite
def _fragments(draw: st.DrawFn, whole: str) -> list[str]:
    """`whole` cut into pieces, none of them empty."""
    cuts = draw(st.lists(st.integers(0, len(whole)), max_size=6))
    edges = sorted({0, len(whole), *cuts})
    return [whole[start:end] for start, end in pairwise(edges)]


@st.composite
def _call(draw: st.DrawFn, index: int) -> list[Event]:
    arguments = draw(st.dictionaries(_text, _json_values, max_size=3))
    dumped = json.dumps(arguments, ensure_ascii=draw(st.booleans()))
    fragments = [] if not arguments and draw(st.booleans()) else draw(_fragments(dumped))
    return [
        ToolCallStart(index, f"call_{index}", draw(st.sampled_from(TOOLS))),
        *(ToolCallArguments(index, fragment) for fragment in fragments),
        ToolCallEnd(index),
    ]


@st.composite
def _cut_call(draw: st.DrawFn, index: int) -> list[Event]:
    """A call inside whose arguments the answer was cut."""
    start, *_ = draw(_call(index))
    dumped = json.dumps(draw(st.dictionaries(_text, _json_values, min_size=1, max_size=3)))
    cut = dumped[: draw(st.integers(1, len(dumped) - 1))]
    fragments = [ToolCallArguments(index, fragment) for fragment in draw(_fragments(cut))]
    return [start, *fragments, ToolCallEnd(index, complete=False)]


@st.composite
def _said(draw: st.DrawFn, kinds: tuple[str, ...]) -> list[Event]:
    said: list[Event] = []
    calls = 0
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=6)):
        if kind == "call":
            said += draw(_call(calls))
            calls += 1
        else:
            delta = TextDelta if kind == "text" else ReasoningDelta
            said += [delta(piece) for piece in draw(_fragments(draw(_text)))]
    return said


@st.composite
def _steps(draw: st.DrawFn, events: list[Event]) -> tuple[Batch | Silence, ...]:
    """The events in batches, with silences between them."""
    steps: list[Batch | Silence] = []
    cuts = draw(st.sets(st.integers(1, max(1, len(events) - 1)), max_size=8))
    edges = sorted({0, len(events)} | {cut for cut in cuts if cut < len(events)})
    for start, end in pairwise(edges):
        steps += [SILENCE] * draw(st.integers(0, 2))
        steps.append(tuple(events[start:end]))
    return tuple(steps)


@st.composite
def scripts(draw: st.DrawFn, kinds: tuple[str, ...] = ("text", "reasoning", "call")) -> Script:
    """A script that ends well."""
    said = draw(_said(kinds))
    called = any(isinstance(event, ToolCallStart) for event in said)
    reasons: list[FinishReason] = ["length", "tool_calls"] if called else ["stop", "length", "content_filter"]
    if "call" in kinds and draw(st.booleans()):
        said += draw(_cut_call(sum(isinstance(event, ToolCallStart) for event in said)))
        reasons = ["length"]
    prompt = draw(st.integers(1, 10**6))
    usage = Usage(prompt, draw(st.integers(0, prompt)), draw(st.integers(0, 10**6)))
    waits: list[Event] = [Progress("queued", 1, 2)] * draw(st.integers(0, 2))
    head = [*waits, Started(prompt, usage.cached_tokens), *waits]
    tail = [ChoiceFinished(draw(st.sampled_from(reasons))), Finished(usage)]
    return Script("arbitrary", draw(_steps([*head, *said, *tail])), offered=TOOLS if "call" in kinds else ())


@st.composite
def broken_scripts(draw: st.DrawFn) -> Script:
    """A script whose end is a failure, at any point."""
    whole = draw(scripts())
    kept = whole.events[: draw(st.integers(0, len(whole.events) - 2))]
    failure = Failed("internal_error", "the engine gave up")
    return Script("broken", (*draw(_steps(kept)), (failure,)) if kept else ((failure,),), offered=TOOLS)


def text_scripts() -> st.SearchStrategy[Script]:
    """Scripts that a dialect without tools and reasoning can tell."""
    return scripts(kinds=("text",))
