"""`cortex models list | show | rm | probe`: the model files of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cortex.cli.generated import with_demo
from cortex.cli.options import ConfigPath, Json, ModelsPath, read_config
from cortex.cli.output import exits, print_json, print_table, say
from cortex.cli.probe import probe
from cortex.cli.tables import card_table, cards_table
from cortex.errors import ModelNotFound
from cortex.operator.figures import format_bytes
from cortex.wire.status import ModelCard

__all__ = ["register"]

Name = Annotated[str, typer.Argument(help="Model id or alias.")]


def register(app: typer.Typer) -> None:
    """Add the group to the program."""
    group = typer.Typer(name="models", help="List, show, remove and probe this machine's models.", no_args_is_help=True)
    for name, command in (("list", list_models), ("show", show), ("rm", remove), ("probe", probe)):
        group.command(name)(command)
    app.add_typer(group, rich_help_panel="Model files")


@exits
def list_models(config: ConfigPath = None, models: ModelsPath = None, as_json: Json = False) -> None:
    """List the models that `cortex up` finds on this machine, loaded or not."""
    cards = _cards(config, models)
    if as_json:
        print_json(list(cards.values()))
    elif cards:
        print_table(cards_table(cards.values()))
    else:
        say("no models here: put GGUF files into ~/models, `cortex pull` one, or name them in a models.toml (--models)")


@exits
def show(model: Name, config: ConfigPath = None, models: ModelsPath = None, as_json: Json = False) -> None:
    """Show what is known of one model without loading it."""
    cards = _cards(config, models)
    card = next((card for card in cards.values() if model in (card.id, *card.aliases)), None)
    if card is None:
        raise ModelNotFound(f"there is no model {model!r} here; `cortex models list` shows what there is")
    if as_json:
        print_json(card)
    else:
        print_table(card_table(card))


@exits
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
        raise ModelNotFound(f"{model!r} has no files here; `cortex models list` shows what there is")
    blobs = sorted({part for path in files for part in (path, path.resolve())})
    size = format_bytes(sum(path.stat().st_size for path in files))
    if not yes:
        typer.confirm(f"Delete {', '.join(map(str, files))} ({size})?", abort=True)
    for path in blobs:
        path.unlink(missing_ok=True)
        path.with_suffix(".verified").unlink(missing_ok=True)
    say(f"freed {size}")


def _cards(config: Path | None, models: Path | None) -> dict[str, ModelCard]:
    from cortex.neuron.app import scan_models
    from cortex.neuron.models.card import card_of

    settings, profiles = read_config(config, models)
    catalog = scan_models(settings, with_demo(profiles))
    return {name: card_of(entry) for name, entry in sorted(catalog.entries.items())}
