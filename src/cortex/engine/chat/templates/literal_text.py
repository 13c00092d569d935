"""Keeps text that clients send from becoming special tokens: only the template and our own markers may write these.

Where a special token's spelling occurs in a message, a tool result or a declaration, a break mark (a private-use
character) is put behind its first character before the template renders it. Templates may trim, quote, reorder or
repeat the text. The rendered prompt is cut at the marks, which disappear, and its pieces are tokenised one by one: no
piece has the whole spelling, and their texts joined are what the client sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from cortex.engine.chat.vocabulary import Vocabulary, single_token
from cortex.wire import inference
from cortex.wire.inference import InferenceRequest, Tool

__all__ = ["BREAK", "NO_SPELLINGS", "SpecialSpellings", "cut_at_breaks", "shielded", "special_spellings"]

BREAK = "\U000f0000"
"""The break mark. Where a client writes this character it stands doubled."""


class SpecialSpellings:
    """The spellings of a model's special tokens."""

    def __init__(self, spellings: Iterable[str]) -> None:
        self._by_head: dict[str, set[str]] = {}
        for spelling in spellings:
            if len(spelling) > 1:
                self._by_head.setdefault(spelling[:2], set()).add(spelling)
        self._lengths = {head: sorted({len(text) for text in texts}) for head, texts in self._by_head.items()}
        firsts = "".join(sorted({head[0] for head in self._by_head} | {BREAK}))
        self._first = re.compile(f"[{re.escape(firsts)}]")

    def broken(self, text: str, keep: Collection[str] = ()) -> str:
        """`text` with a break mark inside each spelling but those in `keep`."""
        pieces, at = list[str](), 0
        for found in self._first.finditer(text):
            place = found.start()
            if found[0] == BREAK or self._begins(text, place, keep):
                pieces.append(text[at : place + 1] + BREAK)
                at = place + 1
        return "".join([*pieces, text[at:]]) if pieces else text

    def _begins(self, text: str, place: int, keep: Collection[str]) -> bool:
        head = text[place : place + 2]
        spellings = self._by_head.get(head)
        if spellings is None:
            return False
        written = (text[place : place + length] for length in self._lengths[head])
        return any(spelling in spellings and spelling not in keep for spelling in written)


NO_SPELLINGS = SpecialSpellings(())


def special_spellings(vocabulary: Vocabulary, markers: Iterable[str]) -> SpecialSpellings:
    """Those of all control tokens of `vocabulary`, of its unknown token, and those of `markers` that are single tokens.
    Reads the whole vocabulary."""
    control = [vocabulary.piece(token) for token in range(vocabulary.size) if vocabulary.is_control(token)]
    defined = [text for text in {*markers, "<unk>"} if single_token(vocabulary, text) is not None]
    return SpecialSpellings([*(piece.decode("utf-8", "ignore") for piece in control), *defined])


def cut_at_breaks(prompt: str) -> list[str]:
    """The pieces of a rendered prompt to tokenise one by one; joined they are the prompt without break marks."""
    pieces, at = [""], 0
    for found in re.finditer(f"{BREAK}+", prompt):
        marks = len(found[0])
        pieces[-1] += prompt[at : found.start()] + BREAK * (marks // 2)
        if marks % 2:
            pieces.append("")
        at = found.end()
    pieces[-1] += prompt[at:]
    return [piece for piece in pieces if piece]


def _broken_value(value: Any, broken: Callable[[str], str]) -> Any:
    """A JSON value with every string in it, keys too, changed by `broken`."""
    if isinstance(value, str):
        return broken(value)
    if isinstance(value, dict):
        return {broken(key): _broken_value(inner, broken) for key, inner in value.items()}
    if isinstance(value, list):
        return [_broken_value(inner, broken) for inner in value]
    return value


def shielded(request: InferenceRequest, spellings: SpecialSpellings, own: Collection[str]) -> InferenceRequest:
    """`request` with break marks in all that its client wrote, for rendering.

    Template variables are no content: they may spell tokens, as the template itself does.

    `own` are the markers of the model's reasoning, which count in assistant messages: clients send back there what the
    model wrote.
    """

    def tool(offered: Tool) -> Tool:
        parameters = _broken_value(offered.parameters, spellings.broken)
        name, description = spellings.broken(offered.name), spellings.broken(offered.description)
        return replace(offered, name=name, description=description, parameters=parameters)

    shield = _Shield(spellings, own)
    return replace(
        request,
        messages=[shield.message(message) for message in _joined(request)],
        tools=[tool(offered) for offered in request.tools],
        template_kwargs=_broken_value(request.template_kwargs, NO_SPELLINGS.broken),
    )


def _joined(request: InferenceRequest) -> Sequence[inference.Message]:
    """The messages; of one to be continued the text parts, which are joined without a separator, as one part: a
    spelling may begin in one and end in the next."""
    if not request.continue_final or not request.messages:
        return request.messages
    last = request.messages[-1]
    text = "".join(part.text for part in last.parts if isinstance(part, inference.Text))
    others = [part for part in last.parts if not isinstance(part, inference.Text)]
    return [*request.messages[:-1], replace(last, parts=[*others, inference.Text(text)])]


class _Shield:
    """Puts break marks into one request's messages."""

    def __init__(self, spellings: SpecialSpellings, own: Collection[str]) -> None:
        self._broken = spellings.broken
        self._own = own

    def message(self, message: inference.Message) -> inference.Message:
        keep = self._own if message.role == "assistant" else ()
        parts = [self._part(part, keep) for part in message.parts]
        return replace(message, parts=parts, name=self._optional(message.name))

    def _part(self, part: inference.Part, keep: Collection[str]) -> inference.Part:
        match part:
            case inference.Text():
                return replace(part, text=self._broken(part.text, keep))
            case inference.Thinking():
                return replace(part, text=self._broken(part.text))
            case inference.ToolCall():
                names = {"id": self._broken(part.id), "name": self._broken(part.name)}
                return replace(part, **names, arguments=self._arguments(part.arguments))
            case inference.ToolResult():
                inner = [self._part(piece, ()) for piece in part.parts]
                name, call_id = self._optional(part.name), self._broken(part.call_id)
                return replace(part, parts=inner, name=name, call_id=call_id)
        return part

    def _optional(self, text: str | None) -> str | None:
        return None if text is None else self._broken(text)

    def _arguments(self, text: str) -> str:
        """JSON text of a call's arguments: its strings may spell a token only when they are decoded."""
        if "\\" not in text:
            return self._broken(text)
        try:
            value = json.loads(text)
            broken = _broken_value(value, self._broken)
        except (ValueError, RecursionError):
            return self._broken(text)
        return text if broken == value else json.dumps(broken, ensure_ascii=False)
