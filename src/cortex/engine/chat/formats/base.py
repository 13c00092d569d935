"""The interface between tool-call formats and the code that detects, parses and constrains them.

A format is data plus a parser, written as a generator over a `Reader`: straight-line code that yields where it needs
more input. The parser passes what it reads to a `ToolCallEmitter`, which buffers, makes ids, checks names and returns
blocks that aren't calls as text, so a format holds only what is particular to its markup.

Modules here: `json_calls`, `named_json`, `tagged` (its grammar in `tagged_grammar`) and `pythonic` are parsers for
markup that several families share, with these families as data in `json_families`, `tagged_families` and
`pythonic_families`; `atem`, `functionary`, `gemma`, `harmony` and `llama3` each hold the parser of one family, and the
family. `families` lists them all. File names in them are chat templates in llama.cpp's models/templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cortex.engine.chat.splitting.markers import ToolMarkers
from cortex.engine.chat.splitting.reader import Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.chat.vocabulary import Vocabulary
from cortex.engine.grammar.lark import LarkBuilder
from cortex.wire.inference import Tool

__all__ = ["Evidence", "HasOtherBlocks", "ToolFormat", "Trigger", "contains_all"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a family is recognised by. `source`: all chat templates of the GGUF, joined."""

    source: str
    vocabulary: Vocabulary


@dataclass(frozen=True, slots=True)
class Trigger:
    """Text that begins a tool-call block. `at_start`: only at the start of a text segment, after any whitespace."""

    text: str
    at_start: bool = False


class ToolFormat(ToolMarkers, Protocol):
    """One family of tool-call markup.

    `triggers`: what begins a block; a grammar writes the first of them. `frames`: the markup also frames plain answers
    and reasoning, so it is parsed when no tools are offered too. `holds_several`: parallel calls come in one block, not
    in one block each.
    """

    @property
    def name(self) -> str: ...
    @property
    def triggers(self) -> Sequence[Trigger]: ...
    @property
    def frames(self) -> bool: ...

    @property
    def holds_several(self) -> bool: ...

    def matches(self, evidence: Evidence) -> str | None:
        """Why this GGUF seems to use the format, as a clause for people, or None."""
        ...

    def parse(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        """Read one block, from its trigger on (which is part of it). Raises Malformed."""
        ...

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        """A Lark expression for one block without its leading trigger; the rules it needs are added to `lark`."""
        ...


@runtime_checkable
class HasOtherBlocks(Protocol):
    """A format whose models also write a call in ways that don't begin with its first trigger."""

    def other_blocks(self, lark: LarkBuilder, tools: Sequence[Tool]) -> list[str]:
        """Lark expressions for whole blocks."""
        ...


def contains_all(evidence: Evidence, strings: Sequence[str]) -> str | None:
    """The clause for a template that contains all of `strings`; None if it lacks one, or if there are none."""
    if not strings or not all(string in evidence.source for string in strings):
        return None
    return "the template contains " + ", ".join(repr(string) for string in strings)
