"""Finds GGUF files below a directory and groups them: the shards of a model together, projectors apart."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ModelFiles", "SkipLog", "find_models", "is_file", "is_gguf", "shard_of", "stem_of"]

logger = logging.getLogger(__name__)

_SHARD = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})$", re.DOTALL)
_MAX_FOLDERS = 10_000
"""Of one model directory. A link to a whole disk would take minutes at every scan."""


class SkipLog:
    """Logs each file or folder that is left out once, not at every scan."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str]] = set()

    def skip(self, path: str | Path, reason: str) -> None:
        """Log that `path` was left out for `reason`, unless that has been logged."""
        if (key := (str(path), reason)) not in self._logged:
            self._logged.add(key)
            logger.warning("left out of the catalogue", extra={"path": path, "reason": reason})


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a model in several files; `part` counts from 1."""

    stem: str
    part: int
    parts: int


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of one model below `root`, in order; `name` is its file name without shard numbers and suffix."""

    root: Path
    name: str
    files: tuple[Path, ...]

    @property
    def relative(self) -> str:
        """Its path below `root`, with `name` in place of the file's."""
        return (self.files[0].parent.relative_to(self.root) / self.name).as_posix()


def is_gguf(name: str) -> bool:
    """Whether a file is taken for a GGUF by its name, in any case."""
    return name.lower().endswith(".gguf")


def is_file(path: Path) -> bool:
    """As Path.is_file, and False where a folder on the way may not be read or no file can have that name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def stem_of(name: str) -> str:
    """A file's name without its suffix; whole where nothing else is left to name a model by (`..gguf`)."""
    stem = name[: -len(".gguf")] if is_gguf(name) else name
    return stem if stem.strip(". ") else name


def shard_of(path: Path) -> Shard | None:
    """None for a file that is a whole model."""
    match = _SHARD.match(stem_of(path.name))
    return Shard(match["stem"], int(match["part"]), int(match["parts"])) if match else None


def find_models(root: Path, skips: SkipLog, seen: set[Path] | None = None) -> list[ModelFiles]:
    """The models below `root` by path; a file that links lead to, or that is `seen` already, once, by its own
    path rather than a link's. Blocks.

    What can't be read or named is left out and logged.
    """
    seen = set() if seen is None else seen
    groups: dict[tuple[Path, str, int], list[Path]] = {}
    for path in sorted(_gguf_files(root, skips), key=lambda path: (path.is_symlink(), path)):
        if "mmproj" in path.name.lower():
            continue
        target = path.resolve()
        if target in seen:
            skips.skip(path, f"the same file as another of the catalogue ({target})")
            continue
        seen.add(target)
        shard = shard_of(path)
        key = (path.parent, shard.stem if shard else path.name, shard.parts if shard else 0)
        groups.setdefault(key, []).append(path)
    return [
        ModelFiles(root, name if parts else stem_of(name), tuple(sorted(files)))
        for (_, name, parts), files in groups.items()
    ]


def _gguf_files(root: Path, skips: SkipLog) -> Iterator[Path]:
    """Every regular GGUF file in `root` and below, nearest folders first. Links to folders are followed; each folder is
    read once, so that a ring of links ends."""
    folders, known = [root], set[tuple[int, int]]()
    for count, folder in enumerate(folders):  # grows meanwhile
        if count >= _MAX_FOLDERS:
            skips.skip(root, f"has more than {_MAX_FOLDERS} folders; those beyond are not searched")
            return
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in known:
                continue
            known.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as items:
                listed = sorted(items, key=lambda item: item.name)
        except FileNotFoundError:
            continue  # deleted meanwhile, or a model directory that doesn't exist (said at the start)
        except OSError as error:
            skips.skip(folder, error.strerror or str(error))
            continue
        for item in listed:
            if _is_folder(item):
                folders.append(Path(item.path))
            elif is_gguf(item.name) and _is_usable(item, skips):
                yield Path(item.path)


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:
        return False  # a ring of links


def _is_usable(item: os.DirEntry[str], skips: SkipLog) -> bool:
    reason = ""
    try:
        if not item.is_file():
            reason = "a link to nothing" if item.is_symlink() else "no regular file"
    except OSError as error:
        reason = error.strerror or str(error)
    try:
        item.path.encode()
    except UnicodeEncodeError:
        reason = "its name is not UTF-8"
    if reason:
        skips.skip(os.fsencode(item.path).decode(errors="replace"), reason)
    return not reason
