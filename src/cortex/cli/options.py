"""Options that several commands share, and how they become a config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cortex.config.loading import load_config
from cortex.config.profiles import Profiles, load_profiles
from cortex.config.settings import Config

__all__ = ["ConfigPath", "Gpus", "Json", "Listen", "ModelsPath", "parse_gpus", "read_config"]

ConfigPath = Annotated[
    Path | None, typer.Option("--config", "-c", envvar="CORTEX_CONFIG", help="cortex.toml; without it, the defaults.")
]
ModelsPath = Annotated[Path | None, typer.Option("--models", "-m", help="models.toml, instead of the config's.")]
Listen = Annotated[str | None, typer.Option("--listen", help="host:port; port 0 lets the system choose.")]
Gpus = Annotated[str | None, typer.Option("--gpus", help="all, none, or a list of indices and uuids: 0,1")]
Json = Annotated[bool, typer.Option("--json", help="Print the raw document.")]


def read_config(
    path: Path | None, models: Path | None, overrides: Mapping[str, object] | None = None
) -> tuple[Config, Profiles]:
    """The config under its flags, and the profiles it names. Raises ConfigError."""
    flags = {**(overrides or {}), "models": str(models.absolute()) if models else None}
    config = load_config(path, overrides=flags)
    return config, load_profiles(Path(config.models).expanduser() if config.models else None)


def parse_gpus(text: str | None) -> str | list[int | str] | None:
    """`0,1` as [0, 1]; "all" and "none" as they are; None = not said."""
    if text is None or text in ("all", "none"):
        return text
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [int(name) if name.isdigit() else name for name in names]
