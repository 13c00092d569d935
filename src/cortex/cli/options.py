"""Options that several commands share, and the config that they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cortex.config.profiles import Profiles
from cortex.config.settings import Config
from cortex.config.source import ConfigSource

__all__ = ["ConfigPath", "Gpus", "Json", "Listen", "ModelsPath", "UpFile", "parse_gpus", "read_config"]

ConfigPath = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="CORTEX_CONFIG", help="cortex.toml to read; without one the defaults apply."),
]
ModelsPath = Annotated[
    Path | None, typer.Option("--models", "-m", help="models.toml to read instead of the one that the config names.")
]
Listen = Annotated[
    str | None, typer.Option("--listen", help="host:port to listen on; with port 0 the system chooses one.")
]
Gpus = Annotated[str | None, typer.Option("--gpus", help="all, none, or a list of indices and UUIDs: 0,1")]
UpFile = Annotated[Path | None, typer.Option("--up", hidden=True, help="Written by `cortex up` for its roles.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def read_config(
    path: Path | None, models: Path | None, overrides: Mapping[str, object] | None = None
) -> tuple[Config, Profiles]:
    """The config, with environment variables and `overrides` applied, and its profiles. Raises ConfigError.

    `models` (the flag) replaces the config's own `models`.
    """
    return ConfigSource(path, models, overrides).read()


def parse_gpus(text: str | None) -> str | list[int | str] | None:
    """`0,1` as [0, 1]; "all" and "none" as they are; None where the flag wasn't given."""
    if text is None or text in ("all", "none"):
        return text
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [int(name) if name.isdigit() else name for name in names]
