"""Harmony (gpt-oss): every message has a header with its channel and recipient.

`<|start|>assistant<|channel|>analysis<|message|>…<|end|>` is reasoning; channel `final` (or `commentary` without a
recipient) is text; a message to `functions.f` is a call. The recipient comes before or after the channel, calls are in
the analysis channel too, and a stray `<|channel|>commentary to=assistant` may precede the real header. Source: OpenAI's
harmony format, openai-gpt-oss-120b.jinja in llama.cpp's models/templates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cortex.engine.chat.formats.base import Evidence, Trigger, contains_all
from cortex.engine.chat.formats.json_calls import stream_arguments
from cortex.engine.chat.splitting.markers import special_tokens_in
from cortex.engine.chat.splitting.reader import EndOfInput, Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.grammar.lark import LarkBuilder
from cortex.engine.grammar.values import ValueGrammar
from cortex.wire.inference import Tool

__all__ = ["HARMONY"]

_ENDS = ("<|end|>", "<|return|>", "<|call|>", "<|start|>", "<|channel|>")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")


@dataclass(frozen=True, slots=True)
class Harmony:
    """A block is all messages up to and including a call."""

    name: str = "harmony"
    holds_several: bool = False
    frames: bool = True
    wrappers: tuple[tuple[str, str], ...] = ()

    @property
    def triggers(self) -> Sequence[Trigger]:
        return (Trigger("<|channel|>"), Trigger("<|start|>"), Trigger("to=", at_start=True))

    @property
    def special_tokens(self) -> Sequence[str]:
        return special_tokens_in(*_ENDS, "<|message|>", "<|constrain|>")

    def matches(self, evidence: Evidence) -> str | None:
        return contains_all(evidence, ("<|channel|>", "<|message|>", "<|start|>"))

    def parse(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        opening = ""
        while True:
            written, _ = yield from reader.until("<|message|>", limit=256)
            header = reader.markers.decode(opening + written)
            recipients = [name for name in _RECIPIENT.findall(header) if name not in ("assistant", "user")]
            name: str | None = recipients[-1].removeprefix("functions.") if recipients else None
            if name is not None and name in emitter.tools:
                yield from self._call(reader, emitter, name)
                return
            channels = _CHANNEL.findall(header)
            is_reasoning = name is None and channels[-1:] == ["analysis"]
            opening = yield from self._body(reader, emitter, is_reasoning=is_reasoning)
            if opening not in ("<|start|>", "<|channel|>"):
                return

    def _call(self, reader: Reader, emitter: ToolCallEmitter, name: str) -> Reading[None]:
        emitter.begin(name)
        yield from stream_arguments(reader, emitter)
        emitter.end()
        yield from reader.skip_whitespace()
        yield from reader.take("<|call|>", "<|end|>")

    def _body(self, reader: Reader, emitter: ToolCallEmitter, *, is_reasoning: bool) -> Reading[str]:
        """Emit a message's text; returns the marker that ended it, "" at the end of input."""
        if is_reasoning:
            emitter.reasoning("")
        try:
            while True:
                part, stop = yield from reader.part(*_ENDS)
                shown = reader.markers.decode(part, control=False)
                (emitter.reasoning if is_reasoning else emitter.text)(shown)
                if stop is not None:
                    return stop
        except EndOfInput:
            return ""

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        del parallel  # a message holds one call, and the model ends with it
        return lark.any_of([self._call_grammar(lark, tool) for tool in tools])

    def other_blocks(self, lark: LarkBuilder, tools: Sequence[Tool]) -> list[str]:
        """The recipient before the channel, as OpenAI's template has it in the history."""
        return [self._message(lark, tool, f" to=functions.{tool.name}<|channel|>commentary") for tool in tools]

    def _call_grammar(self, lark: LarkBuilder, tool: Tool) -> str:
        return self._message(lark, tool, f"commentary to=functions.{tool.name}")

    def _message(self, lark: LarkBuilder, tool: Tool, header: str) -> str:
        constrained = f'({lark.literal(" <|constrain|>json")} | " json")?'
        arguments = ValueGrammar(lark, tool.parameters).arguments()
        return lark.rule(f"{lark.literal(header)} {constrained} {lark.literal('<|message|>')} {arguments}")


HARMONY = Harmony()
