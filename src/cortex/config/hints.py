"""msgspec's validation errors as messages with a dotted path and the nearest valid key. Pure."""

from __future__ import annotations

import difflib
import re
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

__all__ = ["annotation_at", "explain", "nearest", "shown"]

_LONGEST_SHOWN = 100
"""Characters of a client's word that a message repeats; a longer one is nobody's typing mistake."""

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?")
_AT = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)


def nearest(word: str, candidates: list[str]) -> str | None:
    """The candidate most similar to `word`; None where none is similar (difflib ratio below 0.5)."""
    if len(word) > _LONGEST_SHOWN:  # the comparison's time grows with the square of its length
        return None
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.5)
    return close[0] if close else None


def shown(word: str) -> str:
    """`word` in quotes, cut where it is too long to be repeated in a message."""
    if len(word) <= _LONGEST_SHOWN:
        return repr(word)
    return f"{word[:_LONGEST_SHOWN]!r}… ({len(word)} characters)"


def explain(error: msgspec.ValidationError, type_: type[Struct]) -> str:
    """The message for an error of converting a document to `type_`.

    E.g. `gateway.listn: unknown key, did you mean listen?` or `gateway.tries: Expected int, got str`. A string that had
    to match a pattern is reported as a size, since config has no other patterns.
    """
    text = str(error)
    if unknown := _UNKNOWN.match(text):
        path = unknown["path"] or ""
        meant = nearest(unknown["key"], _keys_at(type_, path))
        hint = f", did you mean {meant}?" if meant else ""
        return f"{'.'.join(filter(None, [path, unknown['key']]))}: unknown key{hint}"
    if at := _AT.match(text):
        return f"{at['path']}: {_in_words(at['what'], annotation_at(type_, at['path']))}"
    return text


def _in_words(what: str, annotation: Any) -> str:
    if "matching regex" in what:
        return 'not a size; write bytes or e.g. "2GiB"'
    if what.startswith("Invalid enum value"):
        return f"{what}, expected {' or '.join(_choices(annotation))}"
    return what.removeprefix("Object ")


def _choices(annotation: Any) -> list[str]:
    """What a field accepts, in words: `"all"`, `"none"` and `a list` for `Literal["all", "none"] | list[int]`."""
    if get_origin(annotation) is Literal:
        return [f'"{word}"' for word in get_args(annotation)]
    if get_origin(annotation) is list:
        return ["a list"]
    if annotation in (int, float):
        return ["a number"]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _keys_at(type_: type[Struct], path: str) -> list[str]:
    """The valid keys of the struct at `path` (`gateway`, `neurons[...]`)."""
    struct = _struct_in(annotation_at(type_, path))
    return [field.encode_name for field in msgspec.structs.fields(struct)] if struct else []


def annotation_at(type_: type[Struct], path: str) -> Any:
    """The type of the field at `path`; None where there is no such field."""
    current: Any = type_
    for name in filter(None, re.sub(r"\[[^]]*\]", "", path).split(".")):
        struct = _struct_in(current)
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)} if struct else {}
        current = fields.get(name)
    return current


def _struct_in(type_: Any) -> type[Struct] | None:
    if isinstance(type_, type) and issubclass(type_, Struct):
        return type_
    return next((found for argument in get_args(type_) if (found := _struct_in(argument))), None)
