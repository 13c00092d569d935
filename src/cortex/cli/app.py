"""The `cortex` program. A command's module imports a role only when the command runs, so that `--help` stays quick."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cortex.cli import bench, fleet, models, pull, roles, up
from cortex.cli.output import print_error
from cortex.errors import ConfigError

__all__ = ["app", "main"]

app = typer.Typer(
    name="cortex",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
up.register(app)
roles.register(app)
fleet.register(app)
models.register(app)
pull.register(app)
bench.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        roles.version()
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the versions and exit.")
    ] = False,
) -> None:
    """Local LLMs on the GPUs you have, behind one URL that every client accepts."""


def main() -> None:
    """Run the program. A ConfigError becomes one line on stderr and exit code 2."""
    try:
        app()
    except ConfigError as error:
        print_error(error.message)
        sys.exit(2)
