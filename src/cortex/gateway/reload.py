"""Changing the configuration of a running gateway: only what changed, and nothing at all if the new file is bad."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from cortex.config.profiles import Profiles
from cortex.config.settings import Config
from cortex.errors import ConfigError
from cortex.serving.periodic import tick

__all__ = ["Read", "Reloader"]

logger = logging.getLogger(__name__)

Read = Callable[[], tuple[Config, Profiles]]
"""Reads the configuration the way it was read at the start: files, environment, flags. Raises ConfigError."""

_SETTLE_S = 0.2
"""Editors write a file in several steps, and people save several times: a change counts once it has been quiet."""


class Reloader:
    """Applies what `read` returns through `apply`. `error` says why the last attempt changed nothing."""

    def __init__(
        self, current: tuple[Config, Profiles], read: Read | None, apply: Callable[[Config, Profiles], None]
    ) -> None:
        self._current = current
        self._read = read
        self._apply = apply
        self.error = ""

    def reload(self) -> bool:
        """Whether anything changed. Raises ConfigError, after noting it, when the new configuration can't be used."""
        if self._read is None:
            raise ConfigError("this gateway was started without a configuration file")
        try:
            fresh = self._read()
            if fresh == self._current:
                self.error = ""
                return False
            self._apply(*fresh)
        except ConfigError as error:
            self.error = error.message
            logger.warning("reload refused, the old configuration stays", extra={"why": error.message})
            raise
        self._warn_of_fixed(fresh[0])
        self._current = fresh
        self.error = ""
        logger.info("configuration reloaded")
        return True

    def try_reload(self) -> None:
        """`reload` for signals and file watches: a failure is only logged."""
        try:
            self.reload()
        except ConfigError:
            return  # noted and logged by reload

    async def watch(self, files: Sequence[Path], interval_s: float = 1.0) -> None:
        """Reload whenever one of `files` has changed and then stayed as it is for a moment. Never returns."""
        loaded = _stamps(files)
        while True:
            await tick(interval_s)
            seen = _stamps(files)
            if seen == loaded:
                continue
            await asyncio.sleep(_SETTLE_S)
            if _stamps(files) == seen:
                loaded = seen
                self.try_reload()

    def _warn_of_fixed(self, fresh: Config) -> None:
        old = self._current[0]
        if (fresh.gateway.listen, fresh.gateway.metrics_listen) != (old.gateway.listen, old.gateway.metrics_listen):
            logger.warning("listen addresses change at the next start only")


def _stamps(files: Sequence[Path]) -> list[tuple[int, int] | None]:
    stamps: list[tuple[int, int] | None] = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((stat.st_mtime_ns, stat.st_size))
    return stamps
