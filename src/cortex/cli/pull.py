"""`cortex pull`: download a model."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from cortex.cli.options import ConfigPath, Json, ModelsPath, read_config
from cortex.cli.output import print_json, print_line, reports_errors
from cortex.config.profiles import Profile, Profiles

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel="Model files")(pull)


@reports_errors
def pull(
    model: Annotated[str, typer.Argument(help="org/repo, org/repo:QUANT, or an id in models.toml.")],
    config: ConfigPath = None,
    models: ModelsPath = None,
    as_json: Json = False,
) -> None:
    """Download a model from the Hugging Face Hub; an interrupted download is resumed."""
    from cortex.neuron.app import make_downloader

    settings, profiles = read_config(config, models)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(model, total=None)
        paths = make_downloader(settings).fetch(
            _wanted(model, profiles), lambda done, total: progress.update(task, completed=done, total=total)
        )
    if as_json:
        print_json([str(path) for path in paths])
        return
    for path in paths:
        print_line(str(path))


def _wanted(model: str, profiles: Profiles) -> Profile:
    profile = profiles.get(model)
    if profile is not None and profile.source == "huggingface":
        return profile
    repo, _, quant = model.partition(":")
    return Profile(model, source="huggingface", repo=repo, quant=quant or None)
