"""The whole program, run in this process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from cortex.cli.app import app

__all__ = ["run"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})
