"""Chat completions as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import UNSET, Struct, UnsetType

from cortex.dialects.custom_tools import unwrap
from cortex.dialects.openai.chat.view import ChatView
from cortex.dialects.openai.logprobs import ChatLogprobs
from cortex.dialects.openai.objects import FINGERPRINT, TimingsObject, UsageObject, encode
from cortex.wire.events import (
    ChoiceFinished,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
)

__all__ = ["ChatCollector"]


class Function(Struct, frozen=True):
    name: str
    arguments: str


class Call(Struct, frozen=True):
    id: str
    function: Function
    type: str = "function"


class Custom(Struct, frozen=True):
    name: str
    input: str


class CustomCall(Struct, frozen=True):
    id: str
    custom: Custom
    type: str = "custom"


class AnswerMessage(Struct, frozen=True):
    """`content` is a string or, beside calls alone, null; keys of what the answer doesn't have are left out."""

    role: str
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[Call | CustomCall] | UnsetType = UNSET
    function_call: Function | UnsetType = UNSET


class Choice(Struct, frozen=True):
    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(Struct, frozen=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: UsageObject
    system_fingerprint: str = FINGERPRINT
    timings: TimingsObject | UnsetType = UNSET


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    fragments: list[str] = field(default_factory=list)

    def function(self) -> Function:
        return Function(self.name, "".join(self.fragments) or "{}")

    def answered(self, custom: frozenset[str]) -> Call | CustomCall:
        function = self.function()
        if self.name in custom:
            return CustomCall(self.id, Custom(self.name, unwrap(function.arguments)))
        return Call(self.id, function)


@dataclass(slots=True)
class _Choice:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: FinishReason = "stop"


class ChatCollector:
    """Implements Collector for one answer."""

    def __init__(self, view: ChatView) -> None:
        self._view = view
        self._choices = [_Choice() for _ in range(view.choices)]
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
                    self._choices[event.choice].calls.append(_Call(event.id, event.name))
                case ToolCallArguments():
                    self._choices[event.choice].calls[event.index].fragments.append(event.fragment)
                case ChoiceFinished():
                    self._choices[event.choice].reason = event.reason
                case Finished():
                    self._end = event
                case _:
                    pass

    def finish(self) -> bytes:
        view = self._view
        answer = ChatCompletion(
            id=view.id,
            object="chat.completion",
            created=view.created,
            model=view.model,
            choices=[self._choice(index, choice) for index, choice in enumerate(self._choices)],
            usage=UsageObject.of(self._end.usage),
            timings=TimingsObject.of(self._end) if view.timings else UNSET,
        )
        return encode(answer)

    def _choice(self, index: int, choice: _Choice) -> Choice:
        logprobs = ChatLogprobs.of(choice.logprobs) if choice.logprobs else None
        word = self._view.finish_word(choice.reason, bool(choice.calls))
        return Choice(index, self._message(choice), logprobs, word)

    def _message(self, choice: _Choice) -> AnswerMessage:
        text = "".join(choice.text)
        legacy = self._view.legacy
        calls = [call.answered(self._view.custom) for call in choice.calls]
        return AnswerMessage(
            role="assistant",
            content=text or (None if calls else ""),
            reasoning_content="".join(choice.reasoning) if choice.reasoning else UNSET,
            tool_calls=calls if calls and not legacy else UNSET,
            function_call=choice.calls[0].function() if calls and legacy else UNSET,
        )
