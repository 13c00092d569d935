"""What deleting a model deletes: its own files, and never what a link of somebody's points to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cortex.errors import Forbidden
from cortex.neuron.catalog.entry import Entry

__all__ = ["Removal", "removal_of"]


@dataclass(frozen=True, slots=True)
class Removal:
    """`paths` to delete, links before what they point to; `kept` are the targets of links, which stay. `bytes` become
    free."""

    paths: tuple[Path, ...]
    kept: tuple[Path, ...]
    bytes: int

    def carry_out(self) -> None:
        """Raises Forbidden when the system refuses. A path that is gone already is no error."""
        for path in self.paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise Forbidden(f"{path} can't be deleted: {error.strerror}") from error


def removal_of(entry: Entry, directories: Iterable[Path]) -> Removal:
    """What to delete for `entry`, found below the model `directories` or in the Hugging Face cache. Blocks.

    Of a link the link alone, but in the Hugging Face cache the repository's own blob with every link to it. Raises
    Forbidden for a file that is reached through a linked folder outside the model directories.
    """
    roots = [directory.resolve() for directory in directories]
    paths: list[Path] = []
    kept: list[Path] = []
    for path in entry.files:
        target = path.resolve()
        if path.is_symlink():
            if blobs := _own_blobs(path):
                paths += [*_links_to(target, blobs.parent / "snapshots"), target, target.with_suffix(".verified")]
            else:
                paths.append(path)
                kept.append(target)
        elif target.parent == path.parent.absolute() or any(target.is_relative_to(root) for root in roots):
            paths += [path, target.with_suffix(".verified")]
        else:
            raise Forbidden(f"{path} is {target}, outside the model directories; delete it there")
    there = tuple(dict.fromkeys(path for path in paths if path.is_symlink() or path.exists()))
    return Removal(there, tuple(kept), sum(path.stat().st_size for path in there if not path.is_symlink()))


def _own_blobs(link: Path) -> Path | None:
    """The `blobs` folder that the target of `link` is in, if that is of the same repository of the Hugging Face
    cache."""
    blobs = link.resolve().parent
    snapshots = blobs.parent / "snapshots"
    own = blobs.name == "blobs" and blobs.parent.name.startswith("models--")
    return blobs if own and link.absolute().parent.resolve().is_relative_to(snapshots) else None


def _links_to(target: Path, snapshots: Path) -> list[Path]:
    return [path for path in sorted(snapshots.rglob("*")) if path.is_symlink() and path.resolve() == target]
