"""Functionary 3.2: `>>>all` and a line break before text, `>>>f` and a line break before arguments.

The generation prompt ends in the first `>>>`, so that an answer begins with a recipient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cortex.engine.chat.formats.base import Evidence, Steps, Trigger, holds_all
from cortex.engine.chat.formats.json_calls import stream_arguments
from cortex.engine.chat.splitting.reader import EndOfInput, Malformed, Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.grammar.lark import LarkBuilder
from cortex.wire.inference import Tool

__all__ = ["FUNCTIONARY_32"]

_MARK = ">>>"


@dataclass(frozen=True, slots=True)
class Functionary32:
    name: str = "functionary_32"
    holds_several: bool = True
    frames: bool = True
    wrappers: tuple[tuple[str, str], ...] = ()

    @property
    def triggers(self) -> Sequence[Trigger]:
        return (Trigger("", at_start=True), Trigger(_MARK))

    @property
    def atoms(self) -> Sequence[str]:
        return ()

    def matches(self, evidence: Evidence) -> str | None:
        return holds_all(evidence, (">>>all", ">>>"))

    def parse(self, reader: Reader, sink: ToolCallEmitter) -> Steps:
        while True:
            yield from reader.take(_MARK)
            recipient = yield from self._recipient(reader)
            if recipient in sink.tools:
                yield from self._call(reader, sink, recipient)
                if (yield from reader.at_end()) or not (yield from reader.follows(_MARK)):
                    return
                continue
            if recipient != "all":
                # Not a header at all: Python's prompt in an answer, say.
                sink.text(reader.markers.decode(reader.pending.removesuffix(reader.unread)))
            if not (yield from self._text(reader, sink)):
                return

    def _recipient(self, reader: Reader) -> Reading[str]:
        """The header's name, "" if what comes is none; then only what can't be one is read."""
        try:
            name, _ = yield from reader.until("\n", limit=64)
        except Malformed:
            return ""
        return name.strip()

    def _call(self, reader: Reader, sink: ToolCallEmitter, name: str) -> Steps:
        sink.begin(name)
        yield from stream_arguments(reader, sink)
        sink.end()
        yield from reader.skip_blank()

    def _text(self, reader: Reader, sink: ToolCallEmitter) -> Reading[bool]:
        """Pass text on up to the next mark; whether there is one."""
        try:
            while True:
                part, found = yield from reader.before(_MARK)
                sink.text(reader.markers.decode(part, control=False))
                if found:
                    return True
        except EndOfInput:
            return False

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        call = lark.any_of(
            [lark.rule(f"{lark.literal(tool.name + chr(10))} {lark.json(tool.parameters)}") for tool in tools]
        )
        return f'{call} (">>>" {call}){{0,15}}' if parallel else call


FUNCTIONARY_32 = Functionary32()
