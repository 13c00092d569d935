"""Turns msgspec's validation errors into sentences with a dotted path and the nearest valid key."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args

import msgspec
from msgspec import Struct

__all__ = ["explain", "nearest"]

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?")
_AT = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)


def nearest(word: str, candidates: list[str]) -> str | None:
    """The candidate that `word` was probably meant to be."""
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.5)
    return close[0] if close else None


def explain(error: msgspec.ValidationError, type_: type[Struct]) -> str:
    """`gateway.listn: unknown key, did you mean listen?` or `gateway.tries: Expected int, got str`."""
    text = str(error)
    if unknown := _UNKNOWN.match(text):
        path = unknown["path"] or ""
        meant = nearest(unknown["key"], _keys_at(type_, path))
        hint = f", did you mean {meant}?" if meant else ""
        return f"{'.'.join(filter(None, [path, unknown['key']]))}: unknown key{hint}"
    if at := _AT.match(text):
        return f"{at['path']}: {at['what'].removeprefix('Object ')}"
    return text


def _keys_at(type_: type[Struct], path: str) -> list[str]:
    """The keys that the struct reached by `path` (`gateway`, `neurons[...]`) accepts."""
    current: Any = type_
    for name in filter(None, re.sub(r"\[[^]]*\]", "", path).split(".")):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(current)}
        if name not in fields:
            return []
        current = _struct_in(fields[name])
        if current is None:
            return []
    return [field.encode_name for field in msgspec.structs.fields(current)]


def _struct_in(type_: Any) -> type[Struct] | None:
    if isinstance(type_, type) and issubclass(type_, Struct):
        return type_
    return next((found for argument in get_args(type_) if (found := _struct_in(argument))), None)
