"""`cortex pull` and `cortex models list | show | rm`: the model files of this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from cortex.cli.fleet import EXIT_CODES
from cortex.cli.options import ConfigPath, ModelsPath, read_config
from cortex.errors import CortexError, ModelNotFound
from cortex.profiles import Profile, Profiles
from cortex.top.view import format_bytes
from cortex.wire.status import ModelCard

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="Print the raw document instead of a table.")]
Name = Annotated[str, typer.Argument(help="Model id or alias.")]


def register(app: typer.Typer, models_app: typer.Typer) -> None:
    """Add `pull` to the program and the others to its `models` group."""
    app.command()(pull)
    for name, command in (("list", list_models), ("show", show), ("rm", remove)):
        models_app.command(name)(command)


def pull(
    model: Annotated[str, typer.Argument(help="org/repo, org/repo:QUANT, or an id of models.toml.")],
    config: ConfigPath = None,
    models: ModelsPath = None,
    as_json: Json = False,
) -> None:
    """Download a model from the Hugging Face Hub; an interrupted download goes on where it stopped."""
    from cortex.neuron.app import make_downloader

    settings, profiles = read_config(config, models)
    looks = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*looks, console=Console(stderr=True)) as progress:
        task = progress.add_task(model, total=None)
        try:
            paths = make_downloader(settings).fetch(
                _wanted(model, profiles), lambda done, total: progress.update(task, completed=done, total=total)
            )
        except CortexError as error:
            _fail(error)
    if as_json:
        sys.stdout.write(msgspec.json.encode([str(path) for path in paths]).decode() + "\n")
        return
    for path in paths:
        sys.stdout.write(f"{path}\n")


def list_models(config: ConfigPath = None, models: ModelsPath = None, as_json: Json = False) -> None:
    """List the models on this machine, loaded or not."""
    cards = _cards(config, models)
    if as_json:
        _print_json(list(cards.values()))
        return
    table = Table(box=None)
    for column in ("model", "architecture", "quantisation", "parameters", "size", "context", "problem"):
        table.add_column(column)
    for card in cards.values():
        size, parameters = format_bytes(card.size_bytes), f"{card.parameters / 1e9:.2f} B"
        table.add_row(
            card.id, card.architecture, card.quantisation, parameters, size, str(card.context_train), card.problem
        )
    Console().print(table)


def show(model: Name, config: ConfigPath = None, models: ModelsPath = None) -> None:
    """Show what is known of one model without loading it."""
    cards = _cards(config, models)
    found = [card for card in cards.values() if model in (card.id, *card.aliases)]
    if not found:
        _fail(ModelNotFound(f"there is no model {model!r} here; `cortex models list` shows what there is"))
    _print_json(found[0])


def remove(
    model: Name,
    config: ConfigPath = None,
    models: ModelsPath = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete a model's files, after asking."""
    from cortex.neuron.app import scan_models

    catalog = scan_models(*read_config(config, models))
    name = catalog.resolve(model)
    files = catalog.entries[name].files if name else ()
    if not files:
        _fail(ModelNotFound(f"{model!r} has no files here; `cortex models list` shows what there is"))
    blobs = sorted({part for path in files for part in (path, path.resolve())})
    size = format_bytes(sum(path.stat().st_size for path in files))
    if not yes:
        typer.confirm(f"Delete {', '.join(map(str, files))} ({size})?", abort=True)
    for path in blobs:
        path.unlink(missing_ok=True)
        path.with_suffix(".verified").unlink(missing_ok=True)
    sys.stdout.write(f"freed {size}\n")


def _cards(config: Path | None, models: Path | None) -> dict[str, ModelCard]:
    from cortex.neuron.app import scan_models
    from cortex.neuron.plan import card_of

    catalog = scan_models(*read_config(config, models))
    return {name: card_of(entry) for name, entry in sorted(catalog.entries.items())}


def _wanted(model: str, profiles: Profiles) -> Profile:
    profile = profiles.get(model)
    if profile is not None and profile.source == "huggingface":
        return profile
    repo, _, quant = model.partition(":")
    return Profile(model, source="huggingface", repo=repo, quant=quant or None)


def _print_json(document: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")


def _fail(error: CortexError) -> NoReturn:
    Console(stderr=True).print(f"[red]cortex:[/red] {error.message}", highlight=False)
    raise typer.Exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind))) from error
