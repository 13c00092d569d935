"""What the commands print: lines, tables, JSON documents, and errors as one line on stderr with an exit code."""

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

__all__ = ["EXIT_CODES", "exit_with", "print_error", "print_json", "print_line", "print_table", "reports_errors"]

P = ParamSpec("P")

EXIT_CODES: list[tuple[type[CortexError], int]] = [
    (ConfigError, 2),
    (NotFound, 4),
    (BadRequest, 5),
    (ModelLoadFailed, 6),
    (Unavailable, 3),
    (CortexError, 1),
]
"""The first class that an error is an instance of decides. 0 done, 1 refused or failed, 2 wrong config or usage,
3 unreachable or busy, 4 not found, 5 bad request, 6 the load failed."""

_PIPE_WIDTH = 10_000
"""Columns when stdout is no terminal: names are never cut or folded, so that grep finds them."""


def print_line(text: str) -> None:
    """`text` and a newline on stdout, not by rich: names and messages may contain what rich takes for markup."""
    sys.stdout.write(text + "\n")


def print_error(message: str) -> None:
    """One line on stderr, with the program's name in front."""
    console = Console(stderr=True)
    console.print(Text("cortex: ", style="red").append(message, style="default"), highlight=False, soft_wrap=True)


def exit_with(error: CortexError) -> NoReturn:
    """Print the error's message and exit with its code."""
    print_error(error.message)
    raise typer.Exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind))) from error


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """A decorator for commands: a CortexError becomes one line on stderr and its exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CortexError as error:
            exit_with(error)

    return run


def print_json(document: object) -> None:
    """A struct, or bytes that already are JSON, as indented JSON on stdout."""
    raw = document if isinstance(document, bytes) else msgspec.json.encode(document)
    sys.stdout.write(msgspec.json.format(raw, indent=2).decode() + "\n")


def print_table(table: Table) -> None:
    """A table on stdout, as wide as the terminal; without a terminal as wide as its content."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    Console(width=_PIPE_WIDTH if piped else None).print(table, highlight=False)
