"""Where a role's configuration comes from, to be read again, and whether its files have changed since."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from cortex.config.loading import load_config
from cortex.config.profiles import Profiles, load_profiles
from cortex.config.settings import Config

__all__ = ["ConfigSource", "Stamp"]


class Stamp(NamedTuple):
    """What tells a changed file from the one that was read. `device` and `inode` are those of a link's target, so that
    a link that leads to another file is noticed even where size and time are equal, as in a mounted ConfigMap."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class ConfigSource:
    """cortex.toml, the environment, the flags, and the files that cortex.toml names: models.toml and `auth.keys_file`.

    `models` (a flag) replaces the config's own `models`; `complete` turns what was read into what the role works with.
    """

    def __init__(
        self,
        path: Path | None,
        models: Path | None = None,
        overrides: Mapping[str, object] | None = None,
        complete: Callable[[Config, Profiles], tuple[Config, Profiles]] = lambda config, profiles: (config, profiles),
    ) -> None:
        self._path = path
        self._flags = {**(overrides or {}), "models": str(models.absolute()) if models else None}
        self._complete = complete
        self.stamps: dict[Path, Stamp | None] = {}
        """The files at the last `read`, taken before each was read; None where one is missing."""

    def read(self) -> tuple[Config, Profiles]:
        """The config and its profiles as they are now. Raises ConfigError; `stamps` are renewed all the same."""
        self.stamps = {}
        config = load_config(self._noted(self._path), overrides=self._flags)
        self._noted(config.auth.keys_file)  # the role's keyring reads it
        return self._complete(config, load_profiles(self._noted(config.models)))

    def look(self) -> dict[Path, Stamp | None]:
        """The stamps of the same files as they are now."""
        return {path: _stamp(path) for path in self.stamps}

    def _noted(self, name: str | Path | None) -> Path | None:
        if not name:
            return None
        path = Path(name).expanduser()
        self.stamps[path] = _stamp(path)
        return path


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return Stamp(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
