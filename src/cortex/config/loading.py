"""Reads config files: cortex.toml first, then `CORTEX_SECTION__KEY` from the environment, then command-line flags.

A value from the environment is read by the type of its key, since people write there what shells and YAML files have:
`1` or `True` for a boolean, `INFO` for a word, `0` or `sk-a,sk-b` for a list, digits for a string.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from cortex.config import hints
from cortex.config.settings import Config
from cortex.errors import ConfigError

__all__ = ["convert", "load_config", "read_toml"]

T = TypeVar("T", bound=Struct)

_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def load_config(
    path: Path | None,
    environment: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """Read `path` (None = defaults only), then apply `CORTEX_A__B=value` from `environment`, then `overrides`.

    `overrides` are by dotted path ({"gateway.listen": …}); None values are ignored. Raises ConfigError, which names the
    file and the path inside it. `models` and `auth.keys_file` are relative to the config file, other file names to the
    working directory.
    """
    document = read_toml(path) if path else {}
    for name, raw in environment.items():
        if name.startswith("CORTEX_") and "__" in name:
            keys = name.removeprefix("CORTEX_").lower().split("__")
            _put(document, keys, _parse_value(raw, hints.annotation_at(Config, ".".join(keys))))
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _put(document, dotted.split("."), value)
    config = convert(document, Config, str(path) if path else "the environment")
    return _beside(path, config) if path else config


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


def _beside(path: Path, config: Config) -> Config:
    """`config` with the names of files that are looked for beside `path` made complete."""
    replace = msgspec.structs.replace
    if config.models:
        config = replace(config, models=str(path.parent / Path(config.models).expanduser()))
    if keys_file := config.auth.keys_file:
        keys_file = str(path.parent / Path(keys_file).expanduser())
        config = replace(config, auth=replace(config.auth, keys_file=keys_file))
    return config


def _parse_value(raw: str, annotation: Any) -> object:
    """The first reading of `raw` that `annotation` allows. Where none does, or nothing is known of the key (None), the
    plainest one, which the error then shows."""
    readings = list(_readings(raw))
    if annotation is None:
        return readings[0]
    return next((value for value in readings if _fits(value, annotation)), readings[0])


def _readings(raw: str) -> Iterator[object]:
    """`raw` as TOML, as a string, as a boolean, as a word in lower case, as a list of numbers or strings."""
    with suppress(tomllib.TOMLDecodeError):  # most strings are no TOML
        yield tomllib.loads(f"value = {raw}")["value"]
    yield raw
    word = raw.strip().lower()
    if word in _BOOLEANS:
        yield _BOOLEANS[word]
    yield word
    items = [item.strip() for item in raw.split(",") if item.strip()]
    yield [int(item) if item.isdecimal() else item for item in items]
    yield items


def _fits(value: object, annotation: Any) -> bool:
    try:
        msgspec.convert(value, annotation, str_keys=True)
    except msgspec.ValidationError:
        return False
    return True
