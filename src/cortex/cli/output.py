"""What every command prints alike: documents, tables, sentences, and an error's one line with its exit code."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cortex.errors import BadRequest, ConfigError, CortexError, ModelLoadFailed, NotFound, Unavailable

__all__ = ["EXIT_CODES", "complain", "exits", "fail", "print_json", "print_table", "say"]

P = ParamSpec("P")

EXIT_CODES: list[tuple[type[CortexError], int]] = [
    (ConfigError, 2),
    (NotFound, 4),
    (BadRequest, 5),
    (ModelLoadFailed, 6),
    (Unavailable, 3),
    (CortexError, 1),
]
"""0 done, 1 refused or failed, 2 wrong config or usage, 3 unreachable or busy, 4 no such thing, 5 bad request,
6 the load failed."""

_PIPE_WIDTH = 10_000
"""Into a pipe goes every character of a name: nobody greps for an ellipsis."""


def say(sentence: str) -> None:
    """One line on stdout, exactly as it is: names and messages may hold what rich takes for markup."""
    sys.stdout.write(sentence + "\n")


def complain(message: str) -> None:
    """One line on stderr, the program's name before it."""
    console = Console(stderr=True)
    console.print(Text("cortex: ", style="red").append(message, style="default"), highlight=False, soft_wrap=True)


def fail(error: CortexError) -> NoReturn:
    """End the command with the error's message and exit code."""
    complain(error.message)
    raise typer.Exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind))) from error


def exits(command: Callable[P, None]) -> Callable[P, None]:
    """Turn a CortexError that leaves the command into one line on stderr and its exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CortexError as error:
            fail(error)

    return run


def print_json(document: object) -> None:
    """A struct, or bytes that are JSON already, indented."""
    raw = document if isinstance(document, bytes) else msgspec.json.encode(document)
    sys.stdout.write(msgspec.json.format(raw, indent=2).decode() + "\n")


def print_table(table: Table) -> None:
    """As wide as the terminal; into a pipe, as wide as its words."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    Console(width=_PIPE_WIDTH if piped else None).print(table, highlight=False)
