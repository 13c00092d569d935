"""`cortex models probe FILE`: which chat formats a GGUF speaks, and how we know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from cortex.cli import pull
from cortex.wire.worker import ProbeReport

__all__ = ["register"]

_TIMEOUT_S = 120.0

models_app = typer.Typer(name="models", help="Look into model files.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to the program."""
    models_app.command()(probe)
    pull.register(app, models_app)
    app.add_typer(models_app)


def probe(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A GGUF file.")],
    template: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A chat template to use instead of the file's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the raw document instead of a table.")] = False,
) -> None:
    """Show which reasoning and tool-call format a model file speaks, and by which evidence."""
    command = [sys.executable, "-m", "cortex.engine.probe", str(file)]
    command += ["--template", str(template)] if template else []
    # Fixed words and the caller's own paths, no shell.
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
    if done.returncode:
        Console(stderr=True).print(f"[red]cortex:[/red] {done.stderr.strip()}", highlight=False)
        raise typer.Exit(done.returncode)
    if as_json:
        sys.stdout.write(done.stdout)
        return
    _show(msgspec.json.decode(done.stdout, type=ProbeReport))


def _show(report: ProbeReport) -> None:
    console = Console()
    table = Table(title=report.model, title_justify="left", show_header=False)
    table.add_row("reasoning", report.reasoning_format or "none")
    table.add_row("tool calls", report.tool_format or "none (taught a generic form when tools are sent)")
    table.add_row("self-test", report.self_test or "not run: no call is rendered")
    for line in report.evidence:
        table.add_row("evidence", line)
    for name, value in report.template.items():
        table.add_row(f"template: {name.replace('_', ' ')}", value)
    console.print(table, markup=False, highlight=False)
