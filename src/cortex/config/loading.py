"""Reads config files: cortex.toml first, then `CORTEX_SECTION__KEY` from the environment, then command-line flags."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from cortex.config import hints
from cortex.config.settings import Config
from cortex.errors import ConfigError

__all__ = ["convert", "load_config", "read_toml"]

T = TypeVar("T", bound=Struct)


def load_config(
    path: Path | None,
    environment: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """Read `path` (None = defaults only), then apply `CORTEX_A__B=value` from `environment`, then `overrides`.

    `overrides` are by dotted path ({"gateway.listen": …}); None values are ignored. Raises ConfigError, which names the
    file and the path inside it. `models` is relative to the config file, other file names to the working directory.
    """
    document = read_toml(path) if path else {}
    for name, raw in environment.items():
        if name.startswith("CORTEX_") and "__" in name:
            _put(document, name.removeprefix("CORTEX_").lower().split("__"), _parse_value(raw))
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _put(document, dotted.split("."), value)
    config = convert(document, Config, str(path) if path else "the environment")
    if path and config.models:
        config = msgspec.structs.replace(config, models=str(path.parent / Path(config.models).expanduser()))
    return config


def convert(document: object, type_: type[T], source: str) -> T:
    """`document` as `type_`. Raises ConfigError, which names `source`, the path and the nearest valid key."""
    try:
        return msgspec.convert(document, type_, str_keys=True)  # TOML knows no other keys
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {hints.explain(error, type_)}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """The parsed file. Raises ConfigError where it can't be read or isn't TOML."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _put(document: dict[str, Any], keys: list[str], value: object) -> None:
    for key in keys[:-1]:
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise ConfigError(f"{'.'.join(keys)}: {key} is not a section")
    document[keys[-1]] = value


def _parse_value(raw: str) -> object:
    """`raw` as TOML where it is valid TOML (`8`, `true`, `[0, 1]`), else as a string."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw
