"""Legacy completions as SSE: text chunks, a finish chunk per choice, `[DONE]` after the end of the last prompt."""

from __future__ import annotations

from collections.abc import Sequence

from cortex.dialects import sse
from cortex.dialects.openai.completions.answer import CompletionAnswerOptions, CompletionChoice
from cortex.dialects.openai.logprobs import CompletionLogprobs
from cortex.dialects.openai.objects import (
    ChunkHead,
    PromptProgress,
    TimingsObject,
    UsageObject,
    encode,
    finish_reason,
    openai_error_frame,
)
from cortex.errors import CortexError
from cortex.wire.events import ChoiceFinished, Event, Finished, Progress, ReasoningDelta, Started, TextDelta

__all__ = ["CompletionRenderer"]


class CompletionRenderer:
    """StreamRenderer of one answer to all prompts. Choice `c` of prompt `p` has the index `p × choices + c`."""

    def __init__(self, options: CompletionAnswerOptions) -> None:
        self._options = options
        self._head = b"data: " + ChunkHead(options.id, "text_completion", options.created, options.model).open()
        self._cached = [0] * options.parts
        self._ends: list[Finished] = []

    def feed(self, part: int, events: Sequence[Event]) -> bytes:
        return b"".join([self._render(part, event) for event in events])

    def keepalive(self) -> bytes:
        return sse.COMMENT_PING

    def fail(self, error: CortexError) -> bytes:
        return openai_error_frame(error)

    def _render(self, part: int, event: Event) -> bytes:
        first = part * self._options.choices
        match event:
            case TextDelta():
                return self._text(first + event.choice, event)
            case ReasoningDelta():
                return self._chunk(CompletionChoice(event.text, first + event.choice))
            case ChoiceFinished():
                reason = finish_reason(event.reason)
                return self._chunk(CompletionChoice("", first + event.choice, finish_reason=reason))
            case Finished():
                return self._finish(event)
            case Started():
                self._cached[part] = event.cached_tokens
                return b""
            case Progress():
                return self._progress(part, event)
            case _:
                return b""

    def _chunk(self, choice: CompletionChoice) -> bytes:
        return self._head + b',"choices":[' + encode(choice) + b"]}\n\n"

    def _text(self, index: int, event: TextDelta) -> bytes:
        logprobs = None
        if self._options.logprobs and event.logprobs:
            logprobs = CompletionLogprobs.of(event.logprobs)
        return self._chunk(CompletionChoice(event.text, index, logprobs))

    def _finish(self, event: Finished) -> bytes:
        self._ends.append(event)
        if len(self._ends) < self._options.parts:
            return b""
        extra = b""
        if self._options.usage:
            extra += b',"usage":' + encode(UsageObject.of(*(end.usage for end in self._ends)))
        if self._options.timings and self._options.parts == 1:
            extra += b',"timings":' + encode(TimingsObject.of(event))
        return (self._head + b',"choices":[]' + extra + b"}\n\n" if extra else b"") + sse.DONE

    def _progress(self, part: int, event: Progress) -> bytes:
        if not self._options.progress or event.stage != "prefill":
            return b""
        progress = PromptProgress(event.total, self._cached[part], event.done)
        choice = encode(CompletionChoice("", part * self._options.choices))
        return self._head + b',"choices":[' + choice + b'],"prompt_progress":' + encode(progress) + b"}\n\n"
