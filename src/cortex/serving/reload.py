"""Changing the configuration of a running role: only what changed, and nothing at all if the new file is bad."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from cortex.config.differences import differing, keeping, named
from cortex.config.profiles import Profiles
from cortex.config.settings import Config
from cortex.errors import ConfigError
from cortex.serving.periodic import tick

__all__ = ["Reloaded", "Reloader", "Source"]

logger = logging.getLogger(__name__)

_SETTLE_S = 0.2
"""Editors write a file in several steps, and people save several times: a change counts once it has been quiet."""


class Source(Protocol):
    """Reads the configuration the way it was read at the start; `config.source.ConfigSource` is the real one."""

    @property
    def stamps(self) -> object:
        """The files at the last `read`."""

    def read(self) -> tuple[Config, Profiles]:
        """Raises ConfigError."""

    def look(self) -> object:
        """The same files now."""


class Reloaded(Struct, frozen=True):
    """What a reload did. `needs_restart` names the settings whose new value in the file isn't in force."""

    changed: bool
    needs_restart: list[str] = []


class Reloader:
    """Applies what `source` reads through `apply`. `error` says why the last attempt changed nothing.

    `fixed` are the settings (or sections) that hold until a restart: `apply` is given their old values. `unused` are
    those of the other role. `keys_differ` says whether the keys in `auth.keys_file` aren't those in force; it raises
    ConfigError. `check` raises ConfigError for a config that this role can't work with.
    """

    def __init__(
        self,
        current: tuple[Config, Profiles],
        source: Source | None,
        apply: Callable[[Config, Profiles], None],
        *,
        check: Callable[[Config], None] = lambda _: None,
        keys_differ: Callable[[Config], bool] = lambda _: False,
        fixed: Sequence[str] = (),
        unused: Sequence[str] = (),
    ) -> None:
        self._current = current
        self._source = source
        self._apply = apply
        self._check = check
        self._keys_differ = keys_differ
        self._fixed = fixed
        self._unused = unused
        self.error = ""

    def reload(self) -> Reloaded:
        """Raises ConfigError, after noting it, when the new configuration can't be used."""
        if self._source is None:
            raise ConfigError("this role was started without a configuration to read again")
        try:
            written, profiles = self._source.read()
            self._check(written)
            fresh = keeping(self._fixed, self._current[0], written)
            changed = self._changes(fresh, profiles)
            if changed:
                self._check(fresh)
                self._apply(fresh, profiles)
        except ConfigError as error:
            self.error = error.message
            logger.warning("reload refused, the old configuration stays", extra={"why": error.message})
            raise
        self.error = ""
        self._current = fresh, profiles
        needs_restart = differing(fresh, written)
        if changed:
            logger.info("configuration reloaded", extra={"changed": changed})
        if needs_restart:
            logger.warning("settings change at the next start only", extra={"settings": needs_restart})
        return Reloaded(bool(changed), needs_restart)

    def try_reload(self) -> None:
        """`reload` for signals and file watches: a failure is only logged."""
        try:
            self.reload()
        except ConfigError:
            return  # noted and logged by reload

    async def watch(self, interval_s: float = 1.0) -> None:
        """Reload whenever a file has changed since it was last read and then stayed as it is for a moment. Never
        returns, unless there is nothing to read."""
        while self._source is not None:
            await tick(interval_s)
            seen = self._source.look()
            if seen == self._source.stamps:
                continue
            await asyncio.sleep(_SETTLE_S)
            if self._source.look() == seen:
                self.try_reload()

    def _changes(self, fresh: Config, profiles: Profiles) -> list[str]:
        """What differs from what is in force, by name."""
        changes = [name for name in differing(self._current[0], fresh) if not named(name, self._unused)]
        if profiles != self._current[1]:
            changes.append("models.toml")
        if self._keys_differ(fresh) and "auth.keys" not in changes:
            changes.append("auth.keys")
        return changes
