"""The canonical event scripts: what an engine may say, as data. Every dialect must tell each of them truthfully."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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

__all__ = ["CUT_SCRIPTS", "SCRIPTS", "SILENCE", "Batch", "Script", "Silence", "ToolKind", "by_name"]

Silence = Literal["silence"]
SILENCE: Silence = "silence"
"""The keep-alive interval passed without an event."""

Batch = tuple[Event, ...]
ToolKind = Literal["function", "custom", "namespaced"]


@dataclass(frozen=True, slots=True)
class Script:
    """`steps` as the serving layer sees them: batches of events, and the silences between.

    `tool_kind` says how the client declared the tool that the model calls. The model's own name for a namespaced
    tool is the flattened one (`files__read`).
    """

    name: str
    steps: tuple[Batch | Silence, ...]
    tool_kind: ToolKind = "function"
    stop: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()

    @property
    def events(self) -> list[Event]:
        return [event for step in self.steps if step != SILENCE for event in step]

    @property
    def failure(self) -> Failed | None:
        last = self.events[-1]
        return last if isinstance(last, Failed) else None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def reasoning(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, ReasoningDelta))

    @property
    def calls(self) -> list[tuple[str, str]]:
        """(name, arguments) of each complete call as the model made it; no fragments at all mean `{}`."""
        return [(name, arguments or "{}") for index, (name, arguments) in self._made() if index not in self._broken()]

    @property
    def cut_calls(self) -> list[tuple[str, str]]:
        """(name, arguments) of each call inside which the answer was cut."""
        return [call for index, call in self._made() if index in self._broken()]

    def _broken(self) -> set[int]:
        return {event.index for event in self.events if isinstance(event, ToolCallEnd) and not event.complete}

    def _made(self) -> list[tuple[int, tuple[str, str]]]:
        arguments = {event.index: "" for event in self.events if isinstance(event, ToolCallStart)}
        for event in self.events:
            if isinstance(event, ToolCallArguments):
                arguments[event.index] += event.fragment
        starts = [event for event in self.events if isinstance(event, ToolCallStart)]
        return [(event.index, (event.name, arguments[event.index])) for event in starts]

    @property
    def reason(self) -> FinishReason | None:
        return next((event.reason for event in self.events if isinstance(event, ChoiceFinished)), None)


def _end(
    reason: FinishReason = "stop", stop_sequence: str | None = None, reasoning: int = 0, completion: int = 9
) -> Batch:
    usage = Usage(prompt_tokens=42, cached_tokens=30, completion_tokens=completion, reasoning_tokens=reasoning)
    return (ChoiceFinished(reason, stop_sequence), Finished(usage))


def _call(index: int, name: str, *fragments: str, complete: bool = True) -> Batch:
    arguments = [ToolCallArguments(index, fragment) for fragment in fragments]
    end = ToolCallEnd(index, complete=complete)
    return (ToolCallStart(index, f"call_{index:08x}", name), *arguments, end)


_START: Batch = (Started(prompt_tokens=42, cached_tokens=30),)
_THINK: Batch = (ReasoningDelta("Let me "), ReasoningDelta("think."))
_WEATHER = ('{"city": ', '"Łódź"', "}")
_PATCH = (
    '{"inp',
    'ut": "*** Begin Patch\\n*** Add File: caf',
    "\\u00e9.txt\\n+\\ud83d",
    '\\ude00 \\"hi\\"\\n',
    '*** End Patch"}',
)
_SAY: Batch = (TextDelta("Hello"), TextDelta(", wörld "), TextDelta("🙂"))

_ONE = ("get_weather",)
_ALL = ("get_weather", "get_time")

SCRIPTS: tuple[Script, ...] = (
    Script("plain", (_START, *((event,) for event in _SAY), _end())),
    Script("one_batch", ((*_START, *_SAY, *_end()),)),
    Script("empty", (_START, _end(completion=0))),
    Script("reasoning_text", (_START, _THINK, _SAY, _end(reasoning=4))),
    Script("text_reasoning_text", (_START, _SAY, _THINK, (TextDelta("So: 42."),), _end(reasoning=4))),
    Script("reasoning_only", (_START, _THINK, _end(reasoning=9))),
    Script("one_tool", (_START, _call(0, "get_weather", *_WEATHER), _end("tool_calls")), offered=_ALL),
    Script(
        "two_tools",
        (_START, _call(0, "get_weather", *_WEATHER), _call(1, "get_weather", '{"city":"Oslo"}'), _end("tool_calls")),
        offered=_ALL,
    ),
    Script(
        "three_tools",
        (
            _START,
            (
                *_call(0, "get_weather", *_WEATHER),
                *_call(1, "get_time", "{}"),
                *_call(2, "get_weather", '{"city":"Oslo"}'),
            ),
            _end("tool_calls"),
        ),
        offered=_ALL,
    ),
    Script("tool_no_arguments", (_START, _call(0, "get_time", "{}"), _end("tool_calls")), offered=_ALL),
    Script("tool_no_fragments", (_START, _call(0, "get_time"), _end("tool_calls")), offered=_ALL),
    Script("text_tool", (_START, _SAY, _call(0, "get_weather", *_WEATHER), _end("tool_calls")), offered=_ONE),
    Script(
        "tool_text_tool",
        (_START, _call(0, "get_time", "{}"), _SAY, _call(1, "get_weather", *_WEATHER), _end("tool_calls")),
        offered=_ALL,
    ),
    # The model opened a tool call without closing its thoughts; the splitter closed them for it.
    Script(
        "unclosed_think_tool",
        (_START, _THINK, _call(0, "get_weather", *_WEATHER), _end("tool_calls", reasoning=4)),
        offered=_ONE,
    ),
    Script(
        "custom_tool",
        (_START, _call(0, "apply_patch", *_PATCH), _end("tool_calls")),
        tool_kind="custom",
        offered=("apply_patch",),
    ),
    Script(
        "namespaced_tool",
        (_START, _call(0, "files__read", '{"path":', '"a.txt"}'), _end("tool_calls")),
        tool_kind="namespaced",
        offered=("files__read",),
    ),
    Script("stop_sequence", (_START, (TextDelta("one two "),), _end("stop_sequence", "three")), stop=("three",)),
    Script("length", (_START, _SAY, _end("length"))),
    Script("content_filter", (_START, (TextDelta("I can"),), _end("content_filter"))),
    Script("error_mid_stream", (_START, _SAY, (Failed("worker_died", "the worker of model demo died (signal 11)"),))),
    Script(
        "error_in_reasoning", (_START, _THINK, (Failed("server_is_overloaded", "too many requests", retry_after=2),))
    ),
    Script(
        "error_in_tool",
        (_START, (_call(0, "get_weather", '{"city"')[:-1]), (Failed("timeout", "the deadline passed"),)),
        offered=_ONE,
    ),
    Script("error_first", (_START, (Failed("internal_error", "decode failed"),))),
    Script(
        "long_prefill",
        (
            (Progress("queued", 1, 3),),
            SILENCE,
            (Progress("loading", 400, 1000, eta_s=9.5, detail="weights"),),
            SILENCE,
            _START,
            (Progress("prefill", 30, 42),),
            SILENCE,
            SILENCE,
            _SAY,
            SILENCE,
            _end(),
        ),
    ),
    Script(
        "silence_in_tool",
        (_START, _call(0, "get_time")[:1], SILENCE, (ToolCallArguments(0, "{}"), ToolCallEnd(0)), _end("tool_calls")),
        offered=_ALL,
    ),
)


CUT_SCRIPTS: tuple[Script, ...] = (
    Script(
        "length_mid_json",
        (_START, _call(0, "get_weather", '{"city": ', '"Łó', complete=False), _end("length")),
        offered=_ONE,
    ),
    Script(
        "length_after_text",
        (_START, _SAY, _call(0, "get_weather", '{"city": "Łódź"', complete=False), _end("length")),
        offered=_ONE,
    ),
    Script(
        "length_in_second_call",
        (
            _START,
            _call(0, "get_weather", *_WEATHER),
            _call(1, "get_weather", '{"city": "Os', complete=False),
            _end("length"),
        ),
        offered=_ONE,
    ),
    Script(
        "length_in_custom",
        (_START, _call(0, "apply_patch", *_PATCH[:2], complete=False), _end("length")),
        tool_kind="custom",
        offered=("apply_patch",),
    ),
)
"""Answers that were cut inside a call."""


def by_name(name: str) -> Script:
    return next(script for script in (*SCRIPTS, *CUT_SCRIPTS) if script.name == name)
