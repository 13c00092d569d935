"""`cortex models list | show | rm | probe`: the model files of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cortex.cli.options import ConfigPath, Json, ModelsPath, read_config
from cortex.cli.output import print_json, print_line, print_table, reports_errors
from cortex.cli.probe import probe
from cortex.cli.tables import card_table, cards_table
from cortex.cli.up_config import with_demo
from cortex.errors import ModelNotFound
from cortex.operator.formatting import format_bytes
from cortex.wire.status import ModelCard

__all__ = ["register"]

Name = Annotated[str, typer.Argument(help="Model id or alias.")]


def register(app: typer.Typer) -> None:
    """Add the group to the program."""
    group = typer.Typer(
        name="models", help="List, show, delete and probe this machine's model files.", no_args_is_help=True
    )
    for name, command in (("list", list_models), ("show", show), ("rm", remove), ("probe", probe)):
        group.command(name)(command)
    app.add_typer(group, rich_help_panel="Model files")


@reports_errors
def list_models(config: ConfigPath = None, models: ModelsPath = None, as_json: Json = False) -> None:
    """List the models that `cortex up` would serve on this machine."""
    cards = _cards(config, models)
    if as_json:
        print_json(list(cards.values()))
    elif cards:
        print_table(cards_table(cards.values()))
    else:
        print_line(
            "no models here: put GGUF files into ~/models, `cortex pull` one, or name them in a models.toml (--models)"
        )


@reports_errors
def show(model: Name, config: ConfigPath = None, models: ModelsPath = None, as_json: Json = False) -> None:
    """Show what is known about a model without loading it."""
    cards = _cards(config, models)
    card = next((card for card in cards.values() if model in (card.id, *card.aliases)), None)
    if card is None:
        raise ModelNotFound(f"there is no model {model!r} here; `cortex models list` shows what there is")
    if as_json:
        print_json(card)
    else:
        print_table(card_table(card))


@reports_errors
def remove(
    model: Name,
    config: ConfigPath = None,
    models: ModelsPath = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """Delete a model's files, after confirmation."""
    from cortex.neuron.app import scan_models

    catalog = scan_models(*read_config(config, models))
    name = catalog.resolve(model)
    files = catalog.entries[name].files if name else ()
    if not files:
        raise ModelNotFound(f"{model!r} has no files here; `cortex models list` shows what there is")
    blobs = sorted({part for path in files for part in (path, path.resolve())})
    size = format_bytes(sum(path.stat().st_size for path in files))
    if not yes:
        typer.confirm(f"Delete {', '.join(map(str, files))} ({size})?", abort=True)
    for path in blobs:
        path.unlink(missing_ok=True)
        path.with_suffix(".verified").unlink(missing_ok=True)
    print_line(f"freed {size}")


def _cards(config: Path | None, models: Path | None) -> dict[str, ModelCard]:
    from cortex.neuron.app import scan_models
    from cortex.neuron.models.card import card_of

    settings, profiles = read_config(config, models)
    catalog = scan_models(settings, with_demo(profiles))
    return {name: card_of(entry) for name, entry in sorted(catalog.entries.items())}
