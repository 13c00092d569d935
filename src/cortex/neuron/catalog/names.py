"""Names of models by their files. Pure.

A name depends on the files that have the same one and on nothing else: not on the order of a scan, nor on other files.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from cortex.neuron.catalog.files import ModelFiles, shard_of, stem_of

__all__ = ["PREFERRED", "Names", "cache_names", "local_names", "tag_of"]

Names = tuple[str, tuple[str, ...]]
"""An id, and the aliases that go with it."""

PREFERRED = ("Q4_K_M", "Q4_K_S", "Q5_K_M", "Q4_0", "Q8_0")
"""Quantisations by which a repository's file is chosen where none was asked for."""
_TAG = re.compile(
    r"(?:^|[-._])(?P<tag>(?:(?:UD|I1)-)?(?:[IT]?Q\d+(?:_[A-Z0-9]+)*|B?F(?:16|32)|(?:MX|NV)FP4(?:_[A-Z]+)*))$",
    re.IGNORECASE,
)


def local_names(models: Sequence[ModelFiles]) -> list[Names]:
    """For each of `models`: its file's name; where several have that, the shortest end of its path that is unique. The
    path below the model directory is an alias, which stays valid when another file of that name arrives."""
    in_folder = Counter((model.files[0].parent, model.name) for model in models)
    named = [
        (
            model.files[0].parent,
            model.name if in_folder[model.files[0].parent, model.name] == 1 else model.files[0].name,
        )
        for model in models
    ]
    same: dict[str, list[Path]] = defaultdict(list)
    for folder, name in named:
        same[name].append(folder)
    found = []
    for model, (folder, name) in zip(models, named, strict=True):
        chosen = _shortest_end(folder, name, same[name])
        found.append((chosen, tuple({model.relative} - {chosen, model.name})))
    return found


def _shortest_end(folder: Path, name: str, folders: list[Path]) -> str:
    """The last parts of `folder`, as few as tell it from the other `folders`, before `name`."""
    for count in range(len(folder.parts) + 1):
        end = folder.parts[len(folder.parts) - count :]
        if sum(other.parts[len(other.parts) - count :] == end for other in folders) == 1:
            return "/".join([*(part.strip("/") for part in end), name])
    return (folder / name).as_posix()


def tag_of(files: Sequence[Path]) -> str:
    """The quantisation that the files' name ends in, upper-case (`UD-Q4_K_M`), else their folder's; "" without one."""
    shard = shard_of(files[0])
    for name in (shard.stem if shard else stem_of(files[0].name), files[0].parent.name):
        if match := _TAG.search(name):
            return match["tag"].upper()
    return ""


def cache_names(repo: str, models: Sequence[ModelFiles], quantisations: Sequence[str]) -> list[Names]:
    """For each of the `models` of a repository: `repo` where it is the only one, else `repo:TAG`. Both are valid in
    both cases: of several models, `repo` is that of the preferred quantisation. `quantisations` are the headers'."""
    tags = [tag_of(model.files) or quantisation for model, quantisation in zip(models, quantisations, strict=True)]
    unique = [tag if tag and tags.count(tag) == 1 else model.relative for model, tag in zip(models, tags, strict=True)]
    first = min(range(len(models)), key=lambda index: _preference(tags[index], unique[index]))
    found = []
    for index, (tag, quantisation) in enumerate(zip(unique, quantisations, strict=True)):
        names = [f"{repo}:{tag}"]
        if quantisation and quantisation not in unique and quantisations.count(quantisation) == 1:
            names.append(f"{repo}:{quantisation}")
        if index == first:
            names.insert(0 if len(models) == 1 else 1, repo)
        found.append((names[0], tuple(names[1:])))
    return found


def _preference(tag: str, unique: str) -> tuple[int, str]:
    return PREFERRED.index(tag) if tag in PREFERRED else len(PREFERRED), unique
