"""Infers the tool-call format of an unknown family from calls that the template renders.

One call and two calls are rendered; the text before, between and after them is divided into what surrounds each call
and what surrounds all of them. A call itself has one of three shapes:

1. name and arguments in one JSON object: `JsonCalls`, with the keys that hold them;
2. the name as text, the arguments as JSON: `NamedJson`;
3. neither: `TaggedCalls`, with the text around each key and value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cortex.engine.chat.detection.probe_renderer import common_prefix_length, common_suffix_length
from cortex.engine.chat.formats.base import ToolFormat
from cortex.engine.chat.formats.json_calls import JsonCalls
from cortex.engine.chat.formats.named_json import NamedJson
from cortex.engine.chat.formats.tagged import TaggedCalls

__all__ = ["infer_format"]

_NAME = "generic"


@dataclass(frozen=True, slots=True)
class _Call:
    """Where the core of one call is in the rendered text: `text[start:end]`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Around:
    """`section_open (call_open CORE call_close) separator (…) section_close`."""

    section_open: str
    call_open: str
    call_close: str
    section_close: str


def infer_format(rendered: Sequence[str], name: str, arguments: Sequence[dict[str, Any]]) -> ToolFormat | None:
    """The format of `rendered`, None if it has no known shape.

    The first text calls `name` with the first of `arguments`, the second (if there is one) with both.
    """
    for shape in (_as_json, _as_named_json, _as_tags):
        found = shape(rendered, name, arguments)
        if found is not None:
            return found
    return None


# ---- 1. one JSON object


def _as_json(rendered: Sequence[str], name: str, arguments: Sequence[dict[str, Any]]) -> ToolFormat | None:
    spans = [_json_calls(text, name, arguments[: count + 1]) for count, text in enumerate(rendered)]
    if not spans or not all(spans):
        return None
    around = _around(rendered, spans)
    opening = (around.section_open + around.call_open).strip()
    closing = (around.call_close + around.section_close).strip()
    body = json.loads(rendered[0][spans[0][0].start : spans[0][0].end])
    array = opening.endswith("[")
    marker = opening.removesuffix("[").rstrip()
    return JsonCalls(
        name=_NAME,
        open=marker or opening or "{",
        close=closing.removeprefix("]").lstrip(),
        name_keys=(next(key for key, value in body.items() if value == name),),
        argument_keys=(next(key for key, value in body.items() if value in (arguments[0], json.dumps(arguments[0]))),),
        array=array,
        lines=not array and bool(marker) and _in_one_block(rendered[-1], spans[-1], marker),
        bare=not marker,
        at_start=not marker,
    )


def _in_one_block(text: str, calls: Sequence[_Call], marker: str) -> bool:
    """Whether the marker comes once for all of several calls."""
    return len(calls) > 1 and marker not in text[calls[0].end : calls[1].start]


def _json_calls(text: str, name: str, arguments: Sequence[dict[str, Any]]) -> list[_Call]:
    """The objects with name and arguments, one per call; empty if one is missing."""
    found: list[_Call] = []
    position = 0
    for wanted in arguments:
        call = _json_call(text, position, name, wanted)
        if call is None:
            return []
        found.append(call)
        position = call.end
    return found


def _json_call(text: str, position: int, name: str, wanted: dict[str, Any]) -> _Call | None:
    while (start := text.find("{", position)) >= 0:
        value, end = _decoded(text, start)
        if isinstance(value, dict) and name in _scalars(value) and any(_same(item, wanted) for item in value.values()):
            return _Call(start, end)
        position = start + 1
    return None


def _scalars(value: dict[str, Any]) -> list[str]:
    return [item for item in value.values() if isinstance(item, str)]


def _same(value: object, wanted: dict[str, Any]) -> bool:
    return value == wanted or (isinstance(value, str) and _decoded(value, 0)[0] == wanted)


def _decoded(text: str, start: int) -> tuple[object, int]:
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return None, start


# ---- 2. a name, then JSON


def _as_named_json(rendered: Sequence[str], name: str, arguments: Sequence[dict[str, Any]]) -> ToolFormat | None:
    spans = [_named_calls(text, name, arguments[: count + 1]) for count, text in enumerate(rendered)]
    if not spans or not all(spans):
        return None
    around = _around(rendered, spans)
    core = rendered[0][spans[0][0].start : spans[0][0].end]
    name_end = core[len(name) : core.index("{")]
    call_open = around.call_open.lstrip()
    if not call_open or not name_end:
        return None
    return NamedJson(
        name=_NAME,
        call_open=call_open,
        name_end=name_end,
        call_close=around.call_close.strip(),
        section_open=around.section_open.strip(),
        section_close=around.section_close.strip(),
    )


def _named_calls(text: str, name: str, arguments: Sequence[dict[str, Any]]) -> list[_Call]:
    found: list[_Call] = []
    position = 0
    for wanted in arguments:
        start = text.find(name, position)
        brace = text.find("{", start) if start >= 0 else -1
        value, end = _decoded(text, brace) if brace >= 0 else (None, 0)
        if value != wanted:
            return []
        found.append(_Call(start, end))
        position = end
    return found


# ---- 3. tags


def _as_tags(rendered: Sequence[str], name: str, arguments: Sequence[dict[str, Any]]) -> ToolFormat | None:
    spans = [_tagged_calls(text, name, arguments[: count + 1]) for count, text in enumerate(rendered)]
    if not spans or not all(spans) or len(arguments[0]) < 2:
        return None
    first = spans[0][0]
    around = _around(rendered, spans)
    pieces = _between(rendered[0][first.start : first.end], [name, *_words(arguments[0])])
    if pieces is None:
        return None
    # NAME head KEY1 middle VALUE1 following KEY2 middle VALUE2, then the tail closes the last value and the call
    head, middle, following, middle_again = pieces
    if not middle.strip() or middle != middle_again:
        return None
    tail = around.call_close
    closing = common_prefix_length(following, tail)
    value_close = following[:closing].rstrip()
    param_open = following[closing:].lstrip() if closing else ""
    if not value_close or not param_open or not head.endswith(param_open):
        return None
    call_open = around.call_open.rpartition(name)[2]
    return TaggedCalls(
        name=_NAME,
        call_open=call_open.lstrip() if call_open.endswith(" ") else call_open.strip(),  # `<call name>`
        name_end=head.removesuffix(param_open).strip(),
        param_open=param_open,
        key_end=middle.strip(),
        value_close=value_close.strip(),
        call_close=tail[closing:].strip(),
        section_open=around.section_open.strip(),
        section_close=around.section_close.strip(),
        line_values=middle.endswith("\n"),
        holds_several=bool(around.section_open.strip()),
    )


def _words(arguments: dict[str, Any]) -> list[str]:
    return [word for key, value in arguments.items() for word in (key, str(value))]


def _tagged_calls(text: str, name: str, arguments: Sequence[dict[str, Any]]) -> list[_Call]:
    """Calls that contain the name, keys and values in their order; a core ends with the last value."""
    found: list[_Call] = []
    position = 0
    for wanted in arguments:
        start = text.rfind(name, position, max(position, text.find(next(iter(wanted)), position)))
        position = start
        for word in [name, *_words(wanted)] if start >= 0 else ():
            place = text.find(word, position)
            if place < 0:
                return []
            position = place + len(word)
        if start < 0:
            return []
        found.append(_Call(start, position))
    return found


def _between(text: str, words: Sequence[str]) -> list[str] | None:
    """The texts between `words`; `text` begins with the first and ends with the last."""
    pieces: list[str] = []
    rest = text
    for word in words:
        before, found, rest = rest.partition(word)
        if not found:
            return None
        pieces.append(before)
    return pieces[1:]


# ---- around the calls


def _around(rendered: Sequence[str], spans: Sequence[Sequence[_Call]]) -> _Around:
    """What surrounds each call repeats between two calls, the rest surrounds all; one call alone gets all of it."""
    text, calls = rendered[-1], spans[-1]
    before, after = text[: calls[0].start], text[calls[-1].end :]
    if len(calls) < 2:
        return _Around("", before, after, "")
    middle = text[calls[0].end : calls[1].start]
    closing = common_prefix_length(middle, after)
    opening = common_suffix_length(middle[closing:], before)
    call_open = before[len(before) - opening :]
    return _Around(before[: len(before) - opening], call_open, after[:closing], after[closing:])
