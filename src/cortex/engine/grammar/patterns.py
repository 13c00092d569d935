"""Patterns of JSON Schemas as regexes for a whole value."""

from __future__ import annotations

import re

from cortex.engine.grammar.json_schema import compile_error
from cortex.engine.grammar.lark import slashed

__all__ = ["whole_pattern"]


def whole_pattern(pattern: object) -> str | None:
    """A JSON Schema pattern, which may match anywhere, as a regex for the whole value; None if a grammar takes none."""
    if not isinstance(pattern, str):
        return None
    whole = "|".join(map(_anchored, _alternatives(pattern)))
    return whole if compile_error(f"start: /(?:{slashed(whole)})/") is None else None


def _anchored(pattern: str) -> str:
    is_end = re.search(r"(?<!\\)(?:\\\\)*\$$", pattern) is not None
    start = "" if pattern.startswith("^") else "(?s:.*)"
    return f"{start}{pattern.removeprefix('^')[: -1 if is_end else None]}{'' if is_end else '(?s:.*)'}"


def _alternatives(pattern: str) -> list[str]:
    """The parts between the `|` outside of all groups and classes: each has anchors of its own."""
    found, depth, in_class = [""], 0, False
    for piece in re.findall(r"\\.|.", pattern, re.DOTALL):
        if piece == "|" and not depth and not in_class:
            found.append("")
            continue
        found[-1] += piece
        in_class = piece != "]" if in_class else piece == "["
        depth += 0 if in_class else (piece == "(") - (piece == ")")
    return found
