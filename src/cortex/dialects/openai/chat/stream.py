"""Chat completions as SSE: one chunk per event, no `event:` lines, `[DONE]` at the end.

Per choice: a role chunk, deltas, a finish chunk. Usage (on request) has a chunk of its own with empty `choices`,
because clients reorder chunks that contain it. Ids, names and roles are sent once per call or choice: the openai SDK
concatenates what is repeated (`lib/streaming/_deltas.py`). The bytes around a delta are encoded once per choice, so
that a delta costs one small encode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct

from cortex.dialects import sse
from cortex.dialects.custom_tools import CustomInput
from cortex.dialects.openai.chat.answer import ChatAnswerOptions
from cortex.dialects.openai.logprobs import ChatLogprobs
from cortex.dialects.openai.objects import (
    ChunkHead,
    PromptProgress,
    TimingsObject,
    UsageObject,
    encode,
    openai_error_frame,
)
from cortex.errors import CortexError
from cortex.wire.events import (
    ChoiceFinished,
    Event,
    Finished,
    Progress,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
)

__all__ = ["ChatRenderer"]


class FunctionDelta(Struct, frozen=True, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class CustomDelta(Struct, frozen=True, omit_defaults=True):
    name: str | None = None
    input: str | None = None


class ToolCallDelta(Struct, frozen=True, omit_defaults=True):
    """One piece of a tool call. Every delta of a function call has `function`, which the AI SDK requires."""

    index: int
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None
    custom: CustomDelta | None = None


class ChatDelta(Struct, frozen=True, omit_defaults=True):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: FunctionDelta | None = None


_OPENING = ChatDelta(role="assistant", content="")
_TAIL = b',"logprobs":null,"finish_reason":null}]}\n\n'
_TEXT_TAIL = b"}" + _TAIL


@dataclass(slots=True)
class _ChoiceState:
    """The state of one choice. `head` is the chunk up to the delta; `text_head` is the chunk up to the JSON string of a
    text, so that a text chunk costs one string encode. `silent`: the open call has sent no arguments yet. `custom`
    unwraps the input of the open call if its tool is a custom tool."""

    head: bytes
    text_head: bytes
    calls: int = 0
    silent: bool = False
    custom: CustomInput | None = None


class ChatRenderer:
    """StreamRenderer of one chat completion."""

    def __init__(self, options: ChatAnswerOptions) -> None:
        self._options = options
        head = ChunkHead(options.id, "chat.completion.chunk", options.created, options.model).open()
        self._head = b"data: " + head
        heads = [self._head + b',"choices":[{"index":%d,"delta":' % index for index in range(options.choices)]
        self._choices = [_ChoiceState(head, head + b'{"content":') for head in heads]
        self._cached = 0

    def feed(self, part: int, events: Sequence[Event]) -> bytes:  # noqa: ARG002 - chat has one request per answer
        return b"".join([self._render(event) for event in events])

    def keepalive(self) -> bytes:
        return sse.COMMENT_PING

    def fail(self, error: CortexError) -> bytes:
        return openai_error_frame(error)

    def _render(self, event: Event) -> bytes:
        match event:
            case TextDelta():
                return self._text(event)
            case ReasoningDelta():
                return self._delta(event.choice, ChatDelta(reasoning_content=event.text))
            case ToolCallArguments():
                return self._arguments(event.choice, event.index, event.fragment)
            case ToolCallStart():
                return self._call(event)
            case ToolCallEnd():
                return self._call_end(event)
            case ChoiceFinished():
                return self._finish_choice(event)
            case Started():
                self._cached = event.cached_tokens
                return b"".join(self._delta(index, _OPENING) for index in range(len(self._choices)))
            case Finished():
                return self._finish(event)
            case Progress():
                return self._progress(event)
            case _:
                return b""

    def _delta(self, choice: int, delta: ChatDelta) -> bytes:
        return self._choices[choice].head + encode(delta) + _TAIL

    def _text(self, event: TextDelta) -> bytes:
        if not event.logprobs:
            return self._choices[event.choice].text_head + encode(event.text) + _TEXT_TAIL
        logprobs = encode(ChatLogprobs.of(event.logprobs))
        delta = encode(ChatDelta(content=event.text))
        return self._choices[event.choice].head + delta + b',"logprobs":' + logprobs + b',"finish_reason":null}]}\n\n'

    def _call(self, event: ToolCallStart) -> bytes:
        choice = self._choices[event.choice]
        choice.calls += 1
        choice.silent = True
        choice.custom = CustomInput() if event.name in self._options.custom else None
        function = FunctionDelta(name=event.name, arguments="")
        if self._options.legacy:
            return self._delta(event.choice, ChatDelta(function_call=function))
        if choice.custom:
            custom = CustomDelta(name=event.name, input="")
            call = ToolCallDelta(event.index, id=event.id, type="custom", custom=custom)
        else:
            call = ToolCallDelta(event.index, id=event.id, type="function", function=function)
        return self._delta(event.choice, ChatDelta(tool_calls=[call]))

    def _arguments(self, choice: int, index: int, fragment: str) -> bytes:
        self._choices[choice].silent = False
        if custom := self._choices[choice].custom:
            return self._input(choice, index, custom.feed(fragment))
        function = FunctionDelta(arguments=fragment)
        if self._options.legacy:
            return self._delta(choice, ChatDelta(function_call=function))
        return self._delta(choice, ChatDelta(tool_calls=[ToolCallDelta(index, function=function)]))

    def _input(self, choice: int, index: int, text: str) -> bytes:
        if not text:
            return b""
        return self._delta(choice, ChatDelta(tool_calls=[ToolCallDelta(index, custom=CustomDelta(input=text))]))

    def _call_end(self, event: ToolCallEnd) -> bytes:
        """Clients parse the concatenated arguments, so a call without any gets `{}`."""
        if custom := self._choices[event.choice].custom:
            return self._input(event.choice, event.index, custom.finish(complete=event.complete))
        if not self._choices[event.choice].silent:
            return b""
        return self._arguments(event.choice, event.index, "{}")

    def _finish_choice(self, event: ChoiceFinished) -> bytes:
        choice = self._choices[event.choice]
        reason = self._options.finish_reason(event.reason, bool(choice.calls))
        return choice.head + b'{},"logprobs":null,"finish_reason":' + encode(reason) + b"}]}\n\n"

    def _finish(self, event: Finished) -> bytes:
        extra = b""
        if self._options.usage:
            extra += b',"usage":' + encode(UsageObject.of(event.usage))
        if self._options.timings:
            extra += b',"timings":' + encode(TimingsObject.of(event))
        return (self._head + b',"choices":[]' + extra + b"}\n\n" if extra else b"") + sse.DONE

    def _progress(self, event: Progress) -> bytes:
        if not self._options.progress or event.stage != "prefill":
            return b""
        progress = PromptProgress(event.total, self._cached, event.done)
        return self._choices[0].head + b'{},"finish_reason":null}],"prompt_progress":' + encode(progress) + b"}\n\n"
