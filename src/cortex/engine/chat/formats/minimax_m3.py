"""MiniMax M3: every tag has a mark before it and is named after its argument; nested values are nested tags.

`]<]minimax[>[<k>v]<]minimax[>[</k>` is an argument, and a list's elements are tagged `item`. Nothing between the tags
is an empty object, list or text, or null: only the schema tells which.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from cortex.engine.chat.formats.tagged import TaggedCalls
from cortex.engine.chat.splitting.typed_values import item_schema, json_value, property_schema, types_of
from cortex.wire.inference import JsonSchema

__all__ = ["MINIMAX_M3"]

_MARK = "]<]minimax[>["
_TAG = re.compile(re.escape(_MARK) + r"<([^<>/][^<>]*)>")
_MOST_DEPTH = 64


@dataclass(frozen=True, slots=True)
class _NestedTags(TaggedCalls):
    def converted(self, raw: str, types: set[str], schema: JsonSchema) -> str:
        if _MARK not in raw:
            return json_value(raw, types)
        return json.dumps(_tree(raw, schema, _MOST_DEPTH), ensure_ascii=False)


def _tree(raw: str, schema: JsonSchema, depth: int) -> Any:
    """What nested tags mean: a list if they are all items, else an object; a leaf is whatever it reads as."""
    members: list[tuple[str, Any]] = []
    position = 0
    while depth and (tag := _TAG.search(raw, position)) is not None:
        end = _end_of(raw, tag[1], tag.end())
        inner = item_schema(schema) if tag[1] == "item" else {}
        inner = inner or property_schema(schema, tag[1])
        members.append((tag[1], _tree(raw[tag.end() : end], inner, depth - 1)))
        position = end + len(f"{_MARK}</{tag[1]}>")
    if not members:
        return json.loads(json_value(raw, types_of(schema)))
    if all(name == "item" for name, _ in members):
        return [value for _, value in members]
    return dict(members)


def _end_of(raw: str, name: str, start: int) -> int:
    """Where the closing tag of `name` stands, tags of the same name inside it left out."""
    opener, closer = f"{_MARK}<{name}>", f"{_MARK}</{name}>"
    depth, position = 1, start
    while depth:
        closing, opening = raw.find(closer, position), raw.find(opener, position)
        if closing < 0:
            return len(raw)
        inner = 0 <= opening < closing
        depth += 1 if inner else -1
        position = opening + len(opener) if inner else closing + len(closer)
    return position - len(closer)


MINIMAX_M3 = _NestedTags(
    name="minimax_m3",
    holds_several=True,
    section_open=f"{_MARK}<tool_call>",
    section_close=f"{_MARK}</tool_call>",
    call_open=f'{_MARK}<invoke name="',
    name_end='">',
    param_open=f"{_MARK}<",
    key_end=">",
    value_close=f"{_MARK}</{{key}}>",
    call_close=f"{_MARK}</invoke>",
    more_atoms=(_MARK,),
    evidence=(_MARK,),
)
