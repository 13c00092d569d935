"""Cached prefixes on disk, between an unload and the next load: a directory per configuration, bounded in all."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["DiskPrefixes"]


class DiskPrefixes:
    """Directories below `root`, at most `limit_bytes` together; a limit of 0 saves nothing.

    Conversations lie there: they are for their owner alone. The one saved longest ago goes first.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self._root = root
        self.limit_bytes = limit_bytes

    def find(self, key: str) -> Path | None:
        """What was saved under `key`, None when nothing was."""
        directory = self._root / key
        return directory if self.limit_bytes and directory.is_dir() else None

    def make(self, key: str) -> Path:
        """An empty directory to save into, in place of what was saved under `key` before."""
        directory = self._root / key
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o700)
        return directory

    def prune(self) -> None:
        """Give up the oldest until the rest is within the limit."""
        saved = sorted(self._root.iterdir(), key=lambda path: path.stat().st_mtime) if self._root.is_dir() else []
        sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in saved}
        excess = sum(sizes.values()) - self.limit_bytes
        for path in saved:
            if excess <= 0:
                return
            shutil.rmtree(path, ignore_errors=True)
            excess -= sizes[path]
