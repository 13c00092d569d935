"""Parser and grammar of calls that are a name as plain text, then JSON arguments: Mistral, DeepSeek, Kimi K2 …"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cortex.engine.chat.formats.base import Evidence, Trigger, contains_all
from cortex.engine.chat.formats.json_calls import stream_arguments
from cortex.engine.chat.splitting.markers import special_tokens_in
from cortex.engine.chat.splitting.reader import Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.grammar.lark import LarkBuilder
from cortex.engine.grammar.values import ValueGrammar
from cortex.wire.inference import Tool

__all__ = ["NamedJson"]


@dataclass(frozen=True, slots=True)
class NamedJson:
    """A call is `call_open` name `name_end` JSON `call_close`; `section_*` surround all calls of a block ("" = none).

    `name_prefix` is no part of the name and may be missing. `id_open`: an id may follow the name after this marker.
    `id_end`: an id comes before the name, up to this marker. `own_ids`: the name as written (with prefix and counter,
    `functions.f:0`) is the call's id, which the template needs in the next turn. `fence` surrounds the JSON.
    `evidence`: strings that the template must all contain.
    """

    name: str
    call_open: str
    name_end: str
    call_close: str = ""
    section_open: str = ""
    section_close: str = ""
    name_prefix: str = ""
    id_open: str = ""
    id_end: str = ""
    own_ids: bool = False
    fence: tuple[str, str] = ("", "")
    evidence: tuple[str, ...] = ()
    wrappers: tuple[tuple[str, str], ...] = ()
    frames: bool = False

    @property
    def triggers(self) -> Sequence[Trigger]:
        inner = Trigger(self.call_open)
        return (Trigger(self.section_open), inner) if self.section_open else (inner,)

    @property
    def special_tokens(self) -> Sequence[str]:
        return special_tokens_in(
            *(self.section_open, self.section_close, self.call_open, self.call_close, self.name_end, self.id_open),
            *(self.id_end, self.name_prefix),
        )

    @property
    def holds_several(self) -> bool:
        return bool(self.section_open)

    def matches(self, evidence: Evidence) -> str | None:
        return contains_all(evidence, self.evidence)

    def parse(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        if self.section_open and (yield from reader.take(self.section_open)):
            yield from reader.skip_whitespace()
        yield from reader.expect(self.call_open)
        while True:
            yield from self._call(reader, emitter)
            yield from reader.skip_whitespace()
            if self.section_close and (yield from reader.take(self.section_close)):
                return
            if (yield from reader.take(self.call_open)) is None:
                return

    def _call(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        """One call after its `call_open`."""
        if self.id_end:
            yield from reader.name(self.id_end)
        if self.name_prefix:
            yield from reader.take(self.name_prefix)
        stops = [self.name_end, *([self.id_open] if self.id_open else [])]
        written, stop = yield from reader.name(*stops)
        if stop == self.id_open and self.id_open:
            yield from reader.name(self.name_end)
        if self.own_ids:
            emitter.begin(written.rpartition(":")[0] or written, f"{self.name_prefix}{written}")
        else:
            emitter.begin(written)
        opening, closing = self.fence
        yield from reader.skip_whitespace()
        fenced = bool(opening) and (yield from reader.take(opening.strip())) is not None
        yield from stream_arguments(reader, emitter)
        emitter.end()
        for ending in (closing.strip() if fenced else "", self.call_close):
            if ending:
                yield from reader.skip_whitespace()
                yield from reader.take(ending)

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        calls = lark.any_of([self._call_grammar(lark, tool) for tool in tools])
        if not self.section_open:
            return calls
        one = lark.rule(f"{lark.whitespace()} {lark.literal(self.call_open)} {calls}")
        more = f"({one}){{0,15}}" if parallel else ""
        end = f"({lark.whitespace()} {lark.literal(self.section_close)})?" if self.section_close else ""
        return f"{one} {more} {end}"

    def _call_grammar(self, lark: LarkBuilder, tool: Tool) -> str:
        opening, closing = self.fence
        head = self.name_prefix + tool.name
        before = f"{lark.regex('[a-zA-Z0-9_-]{1,40}')} {lark.literal(self.id_end)}" if self.id_end else ""
        number = lark.regex(":[0-9]{1,3}") if self.own_ids else ""
        call_id = f"{lark.literal(self.id_open)} {lark.regex('[a-zA-Z0-9]{9}')}" if self.id_open else ""
        start = f"{before} {lark.literal(head)} {number} {call_id} {lark.literal(self.name_end + opening)}"
        arguments = ValueGrammar(lark, tool.parameters).arguments()
        # A model that stops after the arguments may leave out what closes the call.
        end = f"({lark.whitespace()} {lark.literal(self.call_close)})?" if self.call_close else ""
        return lark.rule(f"{start} {arguments} {lark.literal(closing) if closing else ''} {end}")
