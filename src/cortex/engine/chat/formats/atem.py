"""ATEM: messages with a recipient in their header (` to=self<|message|>…<|eom|>`), calls as tags in messages to tools.

The generation prompt opens the first header, so the output begins with a recipient: `self` means reasoning, `user` an
answer. Only a message to a tool contains calls; tags quoted elsewhere are text. Source: muse-glimmer.jinja in
llama.cpp's models/templates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cortex.engine.chat.formats.base import Evidence, Trigger, contains_all
from cortex.engine.chat.formats.tagged import TaggedCalls
from cortex.engine.chat.splitting.markers import special_tokens_in
from cortex.engine.chat.splitting.reader import EndOfInput, Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.grammar.lark import LarkBuilder
from cortex.wire.inference import Tool

__all__ = ["ATEM", "Atem"]

_NEXT = "<|start|>"
_BODY = "<|message|>"
_ENDS = ("<|eom|>", "<|eot|>")
_MAX_HEADER = 256
_RECIPIENT = re.compile(r"\bto=(\S+)")
_NOT_TOOLS = ("self", "user", "assistant")
_CALLS = TaggedCalls(
    name="atem_calls",
    holds_several=True,
    section_open="<atem:function_calls>",
    section_close="</atem:function_calls>",
    call_open='<atem:invoke name="',
    name_end='">',
    param_open='<atem:parameter name="',
    key_end='">',
    value_close="</atem:parameter>",
    call_close="</atem:invoke>",
)


@dataclass(frozen=True, slots=True)
class Atem:
    """A block ends with a message that holds calls. `holds_several`: the grammar writes the headers between calls."""

    name: str = "atem"
    holds_several: bool = True
    frames: bool = True
    wrappers: tuple[tuple[str, str], ...] = ()
    calls: TaggedCalls = field(default=_CALLS)

    @property
    def triggers(self) -> Sequence[Trigger]:
        return (Trigger(" to=", at_start=True), Trigger("to=", at_start=True), Trigger(_NEXT))

    @property
    def special_tokens(self) -> Sequence[str]:
        return [*special_tokens_in(_NEXT, _BODY, *_ENDS), *self.calls.special_tokens]

    def matches(self, evidence: Evidence) -> str | None:
        return contains_all(evidence, (self.calls.section_open, _BODY, _ENDS[0]))

    def parse(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        while True:
            header, _ = yield from reader.until(_BODY, limit=_MAX_HEADER)
            recipients = _RECIPIENT.findall(reader.markers.decode(header))
            recipient = recipients[-1] if recipients else ""
            if recipient in emitter.tools and recipient not in _NOT_TOOLS:
                yield from self.calls.parse(reader, emitter)
                yield from reader.skip_whitespace()
                yield from reader.take(*_ENDS)
                return
            if (yield from self._plain(reader, emitter, is_reasoning=recipient == "self")) != _NEXT:
                return

    def _plain(self, reader: Reader, emitter: ToolCallEmitter, *, is_reasoning: bool) -> Reading[str]:
        """Emit a message's text; returns the marker that ended it, "" at the end of input."""
        emit = emitter.reasoning if is_reasoning else emitter.text
        emit("")
        try:
            while True:
                part, found = yield from reader.part(*_ENDS, _NEXT)
                emit(reader.markers.decode(part))
                if found is not None:
                    return found
        except EndOfInput:
            return ""

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        call = lark.any_of([self._call_grammar(lark, tool) for tool in tools])
        following = lark.literal(f"{_ENDS[0]}{_NEXT}assistant{self.triggers[0].text}")
        return f"{call} ({following} {call}){{0,15}}" if parallel else call

    def _call_grammar(self, lark: LarkBuilder, tool: Tool) -> str:
        head = lark.literal(f"{tool.name}{_BODY}{self.calls.section_open}")
        return lark.rule(f"{head} {self.calls.grammar(lark, [tool], parallel=False)}")


ATEM = Atem()
