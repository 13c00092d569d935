"""The texts in the source: what an error or a log line can say, with `…` where a value stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

from tests.docs.blocks import ROOT

__all__ = ["is_said", "texts"]


@cache
def texts() -> frozenset[str]:
    """Every string and f-string of the source but docstrings; each value of an f-string is one `…`."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "src" / "cortex").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    statements = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return frozenset(text for node in nodes if id(node) not in statements and (text := _text(node)))


def is_said(message: str) -> bool:
    """Whether some text of the source has the parts between the message's `…`, in their order."""
    parts = [part for part in message.split("…") if part]
    return any(_in_order(parts, text) for text in texts())


def _in_order(parts: list[str], text: str) -> bool:
    at = 0
    for part in parts:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _text(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_pieces(values))
        case _:
            return ""


def _pieces(values: list[ast.expr]) -> Iterator[str]:
    for value in values:
        yield value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else "…"
