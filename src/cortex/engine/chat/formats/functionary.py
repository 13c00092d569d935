"""Functionary 3.2: `>>>all` and a line break before text, `>>>f` and a line break before the arguments of a call.

The generation prompt ends in the first `>>>`, so the output begins with a recipient. Source:
meetkai-functionary-medium-v3.2.jinja in llama.cpp's models/templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cortex.engine.chat.formats.base import Evidence, Trigger, contains_all
from cortex.engine.chat.formats.json_calls import stream_arguments
from cortex.engine.chat.splitting.reader import EndOfInput, Malformed, Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.grammar.lark import LarkBuilder
from cortex.engine.grammar.values import ValueGrammar
from cortex.wire.inference import Tool

__all__ = ["FUNCTIONARY_32"]

_MARKER = ">>>"


@dataclass(frozen=True, slots=True)
class Functionary32:
    """Text and calls in one block, each after a header; without a header (a lone `>>>` in text) it is text."""

    name: str = "functionary_32"
    holds_several: bool = True
    frames: bool = True
    wrappers: tuple[tuple[str, str], ...] = ()

    @property
    def triggers(self) -> Sequence[Trigger]:
        return (Trigger("", at_start=True), Trigger(_MARKER))

    @property
    def special_tokens(self) -> Sequence[str]:
        return ()

    def matches(self, evidence: Evidence) -> str | None:
        return contains_all(evidence, (">>>all", ">>>"))

    def parse(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        while True:
            yield from reader.take(_MARKER)
            recipient = yield from self._recipient(reader, emitter)
            if recipient in emitter.tools:
                reader.certain = True
                yield from self._call(reader, emitter, recipient)
                if (yield from reader.at_end()) or not (yield from reader.follows(_MARKER)):
                    return
                continue
            if recipient != "all":
                # Not a header, for example Python's prompt in an answer.
                emitter.text(reader.markers.decode(reader.pending.removesuffix(reader.unread)))
            if not (yield from self._text(reader, emitter)):
                return

    def _recipient(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[str]:
        """The header's recipient, "" if what comes is no header; the characters that ruled it out are read."""
        try:
            name, _ = yield from reader.until("\n", limit=64)
        except EndOfInput:
            written = reader.markers.decode(reader.pending).removeprefix(_MARKER).strip()
            if reader.cut and any(name.startswith(written) for name in ("all", *emitter.tools)):
                reader.certain = True
                raise
            return ""
        except Malformed:
            return ""
        return name.strip()

    def _call(self, reader: Reader, emitter: ToolCallEmitter, name: str) -> Reading[None]:
        emitter.begin(name)
        yield from stream_arguments(reader, emitter)
        emitter.end()
        yield from reader.skip_whitespace()

    def _text(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[bool]:
        """Emit text up to the next marker; whether there is one."""
        try:
            while True:
                part, found = yield from reader.before(_MARKER)
                emitter.text(reader.markers.decode(part, control=False))
                if found:
                    return True
        except EndOfInput:
            return False

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        call = lark.any_of(
            [
                lark.rule(f"{lark.literal(tool.name + chr(10))} {ValueGrammar(lark, tool.parameters).arguments()}")
                for tool in tools
            ]
        )
        return f'{call} (">>>" {call}){{0,15}}' if parallel else call


FUNCTIONARY_32 = Functionary32()
