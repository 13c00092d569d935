"""Cached prefixes on disk, from an unload to the next load: a directory per key, with one limit for all together."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["DiskPrefixes"]


class DiskPrefixes:
    """Directories below `root`, at most `limit_bytes` together; a limit of 0 saves nothing. `make` and `prune` block.

    They hold conversations, so only their owner may read them (mode 0700).
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self._root = root
        self.limit_bytes = limit_bytes

    def find(self, key: str) -> Path | None:
        """The directory saved under `key`; None when there is none."""
        directory = self._root / key
        return directory if self.limit_bytes and directory.is_dir() else None

    def make(self, key: str) -> Path:
        """An empty directory for `key`, in place of what was saved before. Raises OSError."""
        directory = self._root / key
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o700)
        return directory

    def prune(self) -> None:
        """Delete the oldest until the rest is within the limit. Raises OSError."""
        saved = sorted(self._root.iterdir(), key=lambda path: path.stat().st_mtime) if self._root.is_dir() else []
        sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in saved}
        excess = sum(sizes.values()) - self.limit_bytes
        for path in saved:
            if excess <= 0:
                return
            shutil.rmtree(path, ignore_errors=True)
            excess -= sizes[path]
