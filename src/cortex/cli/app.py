"""The `cortex` program: commands only. A role is imported when its command runs, so that `--help` stays quick."""

from __future__ import annotations

import sys

import typer

from cortex.cli import bench, fleet, models, roles, up
from cortex.errors import ConfigError

__all__ = ["app", "main"]

app = typer.Typer(
    name="cortex",
    help="Local LLMs on the GPUs you have, behind one URL that every client accepts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
roles.register(app)
up.register(app)
fleet.register(app)
models.register(app)
bench.register(app)


def main() -> None:
    """Run the program. A config error is one message on stderr and exit code 2."""
    try:
        app()
    except ConfigError as error:
        print(f"cortex: {error.message}", file=sys.stderr)  # noqa: T201 - a command's own message, not a log line
        sys.exit(2)
