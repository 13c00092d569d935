"""ATEM: messages addressed in their header (` to=self<|message|>…<|eom|>`), calls as tags in a message to the tool.

The generation prompt opens the first header, so that an answer begins with its recipient: `self` makes a thought,
`user` an answer. Only a message to a tool holds calls; tags quoted in an answer or a thought are part of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cortex.engine.chat.formats.base import Evidence, Steps, Trigger, atoms_in, holds_all
from cortex.engine.chat.formats.tagged import TaggedCalls
from cortex.engine.chat.splitting.reader import EndOfInput, Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.grammar.lark import LarkBuilder
from cortex.wire.inference import Tool

__all__ = ["ATEM"]

_NEXT = "<|start|>"
_BODY = "<|message|>"
_ENDS = ("<|eom|>", "<|eot|>")
_HEADER_CHARS = 256
_RECIPIENT = re.compile(r"\bto=(\S+)")
_PEOPLE = ("self", "user", "assistant")
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
    """A block goes up to the end of a message. `holds_several`: the grammar writes the headers between calls itself."""

    name: str = "atem"
    holds_several: bool = True
    frames: bool = True
    wrappers: tuple[tuple[str, str], ...] = ()
    calls: TaggedCalls = field(default=_CALLS)

    @property
    def triggers(self) -> Sequence[Trigger]:
        return (Trigger(" to=", at_start=True), Trigger("to=", at_start=True), Trigger(_NEXT))

    @property
    def atoms(self) -> Sequence[str]:
        return [*atoms_in(_NEXT, _BODY, *_ENDS), *self.calls.atoms]

    def matches(self, evidence: Evidence) -> str | None:
        return holds_all(evidence, (self.calls.section_open, _BODY, _ENDS[0]))

    def parse(self, reader: Reader, sink: ToolCallEmitter) -> Steps:
        while True:
            header, _ = yield from reader.until(_BODY, limit=_HEADER_CHARS)
            recipients = _RECIPIENT.findall(reader.markers.decode(header))
            recipient = recipients[-1] if recipients else ""
            if recipient in sink.tools and recipient not in _PEOPLE:
                yield from self.calls.parse(reader, sink)
                yield from reader.skip_blank()
                yield from reader.take(*_ENDS)
                return
            if (yield from self._plain(reader, sink, thinks=recipient == "self")) != _NEXT:
                return

    def _plain(self, reader: Reader, sink: ToolCallEmitter, *, thinks: bool) -> Reading[str]:
        """Pass a message's text on; returns the marker that ended it, "" at the end of input."""
        say = sink.reasoning if thinks else sink.text
        say("")
        try:
            while True:
                part, found = yield from reader.part(*_ENDS, _NEXT)
                say(reader.markers.decode(part))
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
