"""The filters that chat templates may use: all of Jinja's, and transformers' `tojson`.

Jinja's own are used where their cost is bounded by their input; the others are here and in `bounded_filters`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from jinja2 import Undefined
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS as JINJA_FILTERS

from cortex.engine.chat.templates.bounded_filters import BOUNDED_FILTERS, check_length
from cortex.engine.chat.templates.literal_text import BREAK

__all__ = ["FILTERS", "to_json"]

_SAFE = [
    "abs",
    "attr",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "groupby",
    "int",
    "items",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "random",
    "reject",
    "rejectattr",
    "reverse",
    "safe",
    "select",
    "selectattr",
    "sort",
    "string",
    "title",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
    "xmlattr",
]
_ESCAPED_BREAK = json.dumps(BREAK)[1:-1]


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """`tojson` as transformers defines it (utils/chat_template_utils.py): plain JSON, without HTML escapes; undefined
    values are null. Break marks stay as they are, also where other characters are escaped."""
    if isinstance(indent, int) and indent > 16:
        raise SecurityError("tojson: indent must not exceed 16")
    text = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_jsonable,
    )
    return text.replace(_ESCAPED_BREAK, BREAK) if ensure_ascii else text


def _jsonable(value: Any) -> Any:
    if isinstance(value, Undefined):
        return None
    raise TypeError(f"tojson: a {type(value).__name__} is not JSON")


def _from_json(text: str) -> Any:
    return json.loads(text)


def _join(values: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        values = [_item(value, attribute) for value in values]
    parts = []
    size = 0
    for value in values:
        parts.append(str(value))
        size += len(parts[-1]) + len(d)
        check_length(size)
    return d.join(parts)


def _item(value: Any, name: str | int) -> Any:
    """An item of a mapping or sequence, never an attribute."""
    return value[name]


def _replace(value: str, old: str, new: str, count: int | None = None) -> str:
    text = str(value)
    check_length(len(text) + text.count(old) * len(new))
    return text.replace(old, new, -1 if count is None else count)


def _indent(value: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    text = str(value)
    pad = width if isinstance(width, str) else " " * min(width, 256)
    check_length(len(text) + (text.count("\n") + 1) * len(pad))
    head, *rest = text.split("\n")
    lines = [pad + line if line or blank else line for line in rest]
    return "\n".join([pad + head if first else head, *lines])


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    return float(JINJA_FILTERS["round"](value, max(-20, min(20, precision)), method))


def _sum(values: Iterable[float], attribute: str | int | None = None, start: float = 0) -> float:
    numbers = values if attribute is None else [_item(value, attribute) for value in values]
    return sum((float(number) if not isinstance(number, int) else number for number in numbers), start)


FILTERS: dict[str, Any] = (
    {name: JINJA_FILTERS[name] for name in _SAFE}
    | BOUNDED_FILTERS
    | {
        "from_json": _from_json,
        "fromjson": _from_json,
        "indent": _indent,
        "join": _join,
        "replace": _replace,
        "round": _round,
        "sum": _sum,
        "tojson": to_json,
    }
)
