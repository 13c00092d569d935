"""The words in which a chat format is described: what the probe finds and the splitter consumes.

A format is data plus a parser written as a generator over a `Reader`: straight-line code that yields where it needs
more input. The parser passes what it reads to a `ToolCallEmitter`, which buffers, makes ids, checks names and
falls back to verbatim text, so a family file holds only what is peculiar to the family.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cortex.engine.chat.vocabulary import Vocabulary
from cortex.wire.inference import Tool

if TYPE_CHECKING:
    from cortex.engine.chat.splitting.reader import Reader
    from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
    from cortex.engine.grammar.lark import LarkBuilder

__all__ = [
    "ATOM",
    "Evidence",
    "ReasoningFormat",
    "Steps",
    "ToolFormat",
    "Trigger",
    "atoms_in",
    "holds_all",
    "single_token",
]

ATOM = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|◁[^▷]+▷")
"""What looks like a marker inside a longer one ("<|channel>" in "<|channel>thought")."""

Steps = Generator[None, None, None]
"""A parser in progress: it yields when it needs more input and returns at the block's end."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a family is recognised by. `source`: all chat templates of the GGUF, joined."""

    source: str
    vocabulary: Vocabulary


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """A model's thinking markers, exactly as its template writes them (surrounding blanks left out).

    Matched by token id where both are single tokens, by text otherwise. `wrappers` are pairs around the answer that
    are dropped from it (`<response>` … `</response>`). `next` is what must follow `close` before anything else can
    (harmony opens the next message), `answer` what a plain answer begins with.
    """

    name: str
    open: str
    close: str
    wrappers: tuple[tuple[str, str], ...] = ()
    answer: str = ""
    next: str = ""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Text that begins a tool-call block. `at_start`: only as the first thing of a text segment."""

    text: str
    at_start: bool = False


class ToolFormat(Protocol):
    """One family of tool-call markup.

    `triggers`: what begins a block, the one a grammar should open with first. `atoms`: the marker strings (of
    triggers, closers and separators alike) that are matched by token id where the vocabulary has them as one token.
    `frames`: the markup also frames plain answers and reasoning, so it is parsed with no tools offered, too.
    `wrappers`: pairs of markers around plain answers, dropped from the text. `holds_several`: parallel calls come in
    one block, not one after the other.
    """

    @property
    def name(self) -> str: ...
    @property
    def triggers(self) -> Sequence[Trigger]: ...
    @property
    def atoms(self) -> Sequence[str]: ...
    @property
    def frames(self) -> bool: ...
    @property
    def wrappers(self) -> Sequence[tuple[str, str]]: ...

    @property
    def holds_several(self) -> bool: ...

    def matches(self, evidence: Evidence) -> str | None:
        """A sentence saying why this GGUF speaks the format, or None."""
        ...

    def parse(self, reader: Reader, sink: ToolCallEmitter) -> Steps:
        """Read one block; the reader stands at the trigger, which is part of the block. Raises Malformed."""
        ...

    def grammar(self, lark: LarkBuilder, tools: Sequence[Tool], *, parallel: bool) -> str:
        """A Lark expression for one block without its leading trigger; rules it needs are added to `lark`."""
        ...


def holds_all(evidence: Evidence, strings: Sequence[str]) -> str | None:
    """The sentence for a template that holds all of `strings`; None if it lacks one, or none are asked for."""
    if not strings or not all(string in evidence.source for string in strings):
        return None
    return "the template holds " + ", ".join(repr(string) for string in strings)


def atoms_in(*texts: str) -> list[str]:
    """What looks like a marker in `texts`."""
    return [atom for text in texts for atom in ATOM.findall(text)]


def single_token(vocabulary: Vocabulary, marker: str) -> int | None:
    """The id of the one token that is `marker`, or None if it takes several."""
    tokens = vocabulary.tokenize(marker, special=True)
    if len(tokens) != 1 or vocabulary.piece(tokens[0]).decode("utf-8", "replace") != marker:
        return None
    return tokens[0]
