"""Chat completions as one JSON object, and the options that streamed and whole answers share.

Shapes after openai's Python SDK 3.54 (`types/chat/chat_completion.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import UNSET, Struct, UnsetType

from cortex.dialects.custom_tools import unwrap_cut_input, unwrap_input
from cortex.dialects.openai.logprobs import ChatLogprobs
from cortex.dialects.openai.objects import FINGERPRINT, TimingsObject, UsageObject, encode, finish_reason
from cortex.wire.events import (
    ChoiceFinished,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
)

__all__ = ["ChatAnswerOptions", "ChatCollector"]


@dataclass(frozen=True, slots=True)
class ChatAnswerOptions:
    """What the request says about the form of its answer, streamed or not.

    `choices` is the number of choices (`n`). `usage`, `timings` and `progress` are True when the client asked for them.
    `legacy` is True when the request declared `functions` instead of `tools`. `custom` holds the names of its custom
    tools.
    """

    id: str
    created: int
    model: str
    choices: int = 1
    usage: bool = False
    timings: bool = False
    progress: bool = False
    legacy: bool = False
    custom: frozenset[str] = frozenset()

    def finish_reason(self, reason: FinishReason, called: bool) -> str:
        """`finish_reason` of a choice. Clients run its calls only when this says `tool_calls`; with a call that was cut
        it stays `length`."""
        name = finish_reason(reason)
        if called and name in {"stop", "tool_calls"}:
            return "function_call" if self.legacy else "tool_calls"
        return name


class FunctionObject(Struct, frozen=True):
    name: str
    arguments: str


class FunctionCallObject(Struct, frozen=True):
    id: str
    function: FunctionObject
    type: str = "function"


class CustomObject(Struct, frozen=True):
    name: str
    input: str


class CustomCallObject(Struct, frozen=True):
    id: str
    custom: CustomObject
    type: str = "custom"


class ChatAnswerMessage(Struct, frozen=True):
    """`content` is null only in a message that has tool calls and no text. Keys without a value are omitted."""

    role: str
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[FunctionCallObject | CustomCallObject] | UnsetType = UNSET
    function_call: FunctionObject | UnsetType = UNSET


class ChatChoice(Struct, frozen=True):
    index: int
    message: ChatAnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(Struct, frozen=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageObject
    system_fingerprint: str = FINGERPRINT
    timings: TimingsObject | UnsetType = UNSET


@dataclass(slots=True)
class _CallParts:
    """A call under construction. The arguments of one that was cut end where the model was cut, as OpenAI's do."""

    id: str
    name: str
    fragments: list[str] = field(default_factory=list)
    complete: bool = True

    def function(self) -> FunctionObject:
        return FunctionObject(self.name, "".join(self.fragments) or "{}")

    def result(self, custom: frozenset[str]) -> FunctionCallObject | CustomCallObject:
        function = self.function()
        if self.name in custom:
            unwrap = unwrap_input if self.complete else unwrap_cut_input
            return CustomCallObject(self.id, CustomObject(self.name, unwrap(function.arguments)))
        return FunctionCallObject(self.id, function)


@dataclass(slots=True)
class _ChoiceParts:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[_CallParts] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: FinishReason = "stop"


class ChatCollector:
    """Collector of one chat completion."""

    def __init__(self, options: ChatAnswerOptions) -> None:
        self._options = options
        self._choices = [_ChoiceParts() for _ in range(options.choices)]
        self._end = Finished()

    def feed(self, part: int, events: Sequence[Event]) -> None:  # noqa: ARG002 - chat has one request per answer
        for event in events:
            match event:
                case TextDelta():
                    self._choices[event.choice].text.append(event.text)
                    self._choices[event.choice].logprobs += event.logprobs
                case ReasoningDelta():
                    self._choices[event.choice].reasoning.append(event.text)
                case ToolCallStart():
                    self._choices[event.choice].calls.append(_CallParts(event.id, event.name))
                case ToolCallArguments():
                    self._choices[event.choice].calls[event.index].fragments.append(event.fragment)
                case ToolCallEnd():
                    self._choices[event.choice].calls[event.index].complete = event.complete
                case ChoiceFinished():
                    self._choices[event.choice].reason = event.reason
                case Finished():
                    self._end = event
                case _:
                    pass

    def finish(self) -> bytes:
        options = self._options
        answer = ChatCompletion(
            id=options.id,
            object="chat.completion",
            created=options.created,
            model=options.model,
            choices=[self._choice(index, choice) for index, choice in enumerate(self._choices)],
            usage=UsageObject.of(self._end.usage),
            timings=TimingsObject.of(self._end) if options.timings else UNSET,
        )
        return encode(answer)

    def _choice(self, index: int, choice: _ChoiceParts) -> ChatChoice:
        logprobs = ChatLogprobs.of(choice.logprobs) if choice.logprobs else None
        reason = self._options.finish_reason(choice.reason, bool(choice.calls))
        return ChatChoice(index, self._message(choice), logprobs, reason)

    def _message(self, choice: _ChoiceParts) -> ChatAnswerMessage:
        text = "".join(choice.text)
        legacy = self._options.legacy
        calls = [call.result(self._options.custom) for call in choice.calls]
        return ChatAnswerMessage(
            role="assistant",
            content=text or (None if calls else ""),
            reasoning_content="".join(choice.reasoning) if choice.reasoning else UNSET,
            tool_calls=calls if calls and not legacy else UNSET,
            function_call=choice.calls[0].function() if calls and legacy else UNSET,
        )
