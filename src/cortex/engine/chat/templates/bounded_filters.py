"""Jinja's filters whose cost or result isn't bounded by their input, with bounds.

transformers renders templates with all of Jinja's filters. A filter that is missing fails a whole load, so each of them
is here or in `filters`. Jinja doesn't compute those that take the context while it compiles, where no budget applies.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from itertools import islice, pairwise
from pprint import pformat
from typing import Any

from jinja2 import pass_context, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

__all__ = ["BOUNDED_FILTERS", "MAX_TEXT", "check_length"]

MAX_TEXT = 16_000_000
"""Characters, as `sandbox.MAX_VALUE`."""
_MAX_LAYOUT = 65_536
"""Characters that `pprint`, `urlize` and `wordwrap` take, whose cost per character is high."""
_MAX_GROUPS = 4096
"""Of `slice`, and items in a group of `batch`: more than any template's columns."""


def check_length(size: int) -> None:
    """Raise SecurityError for a text of more than MAX_TEXT characters."""
    if size > MAX_TEXT:
        raise SecurityError("the template builds too much text")


@pass_context
def _batch(_context: Context, values: Iterable[Any], linecount: int, fill_with: Any = None) -> list[list[Any]]:
    """Lists of `linecount` items each; the last one is filled up with `fill_with`, if that isn't None."""
    if not 0 < linecount <= _MAX_GROUPS:
        raise SecurityError("batch: the length of a group is out of bounds")
    items = iter(values)
    groups = []
    while group := list(islice(items, linecount)):
        groups.append(group)
    if groups and fill_with is not None:
        groups[-1] += [fill_with] * (linecount - len(groups[-1]))
    return groups


@pass_context
def _slice(_context: Context, values: Iterable[Any], slices: int, fill_with: Any = None) -> list[list[Any]]:
    """`slices` lists of nearly equal length; the shorter ones get `fill_with`, if that isn't None."""
    if not 0 < slices <= _MAX_GROUPS:
        raise SecurityError("slice: the number of slices is out of bounds")
    items = list(values)
    size, longer = divmod(len(items), slices)
    starts = [number * size + min(number, longer) for number in range(slices + 1)]
    groups = [items[start:end] for start, end in pairwise(starts)]
    if fill_with is None or not longer:
        return groups
    return [group if number < longer else [*group, fill_with] for number, group in enumerate(groups)]


@pass_context
def _center(_context: Context, value: Any, width: int = 80) -> str:
    check_length(width)
    return str(value).center(width)


@pass_context
def _format(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
    """`value % args`, as bounded as the operator."""
    if args and kwargs:
        raise TypeError("format takes positional or keyword arguments, not both")
    environment = context.environment
    assert isinstance(environment, SandboxedEnvironment)
    return environment.call_binop(context, "%", str(value), kwargs or args)


def _pprint(value: Any) -> str:
    """Like Jinja's; of values whose plain form is short."""
    check_layout("pprint", len(repr(value)))
    return pformat(value)


def _striptags(value: Any) -> str:
    """Text without comments and tags, its whitespace collapsed and its entities decoded; in linear time."""
    text = _without(_without(str(value), "<!--", "-->"), "<", ">")
    return html.unescape(re.sub(r"\s+", " ", text).strip())


def _without(text: str, opening: str, closing: str) -> str:
    pieces, at = list[str](), 0
    while (start := text.find(opening, at)) >= 0 and (end := text.find(closing, start + len(opening))) >= 0:
        pieces.append(text[at:start])
        at = end + len(closing)
    return "".join([*pieces, text[at:]])


@pass_context
def _wordwrap(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
    """Jinja's, of short texts; its fourth argument, `wrapstring`, is put between the lines."""
    text = str(value)
    check_layout("wordwrap", len(text))
    between = kwargs.get("wrapstring", args[2] if len(args) > 2 else None)
    check_length((len(text) + 1) * len(str(between or "")))
    return JINJA_FILTERS["wordwrap"](context.environment, text, *args, **kwargs)


@pass_eval_context
def _urlize(context: EvalContext, value: Any, *args: Any, **kwargs: Any) -> Any:
    text = str(value)
    check_layout("urlize", len(text))
    added = sum(len(str(part)) for part in (*args, *kwargs.values())) + 64
    check_length(len(text) + len(text.split()) * added)
    return JINJA_FILTERS["urlize"](context, text, *args, **kwargs)


def check_layout(name: str, size: int) -> None:
    """Raise SecurityError for a text that is too long for filter `name`."""
    if size > _MAX_LAYOUT:
        raise SecurityError(f"{name} takes at most {_MAX_LAYOUT} characters")


BOUNDED_FILTERS: dict[str, Any] = {
    "batch": _batch,
    "center": _center,
    "format": _format,
    "pprint": _pprint,
    "slice": _slice,
    "striptags": _striptags,
    "urlize": _urlize,
    "wordwrap": _wordwrap,
}
