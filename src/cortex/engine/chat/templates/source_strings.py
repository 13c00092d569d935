"""The strings that a chat template's code contains."""

from __future__ import annotations

from jinja2 import Environment

__all__ = ["source_strings"]


def source_strings(source: str) -> set[str]:
    """The string literals in the code of `source`, without surrounding whitespace. `source` must compile."""
    tokens = Environment().lex(source)  # noqa: S701 - nothing is rendered
    return {value[1:-1].strip() for _, kind, value in tokens if kind == "string"}
