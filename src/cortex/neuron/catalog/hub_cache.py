"""Finds the models in a Hugging Face cache: per repository, those of the revision that `refs/main` points to.

The layout is huggingface_hub's: `models--org--repo/{refs/<name>, snapshots/<commit>/…}`, where a ref holds a commit. A
file that the newest revision lacks (an update that downloaded another file) is found in an older snapshot.
"""

from __future__ import annotations

from pathlib import Path

from cortex.neuron.catalog.files import ModelFiles, SkipLog, find_models, shard_of

__all__ = ["cached_models", "models_of_revision"]

_PREFIX = "models--"


def cached_models(hub: Path, skips: SkipLog) -> dict[str, list[ModelFiles]]:
    """The models of every repository in the cache `hub`, by the repository's name. Blocks."""
    found: dict[str, list[ModelFiles]] = {}
    for folder in sorted(hub.glob(f"{_PREFIX}*")):
        if models := _models_of(folder, "main", skips):
            found[folder.name.removeprefix(_PREFIX).replace("--", "/")] = models
    return found


def models_of_revision(hub: Path, repo: str, revision: str, skips: SkipLog) -> list[ModelFiles]:
    """The models of `repo` at a revision of its own. Blocks."""
    return _models_of(hub / f"{_PREFIX}{repo.replace('/', '--')}", revision, skips)


def _models_of(folder: Path, revision: str, skips: SkipLog) -> list[ModelFiles]:
    """Each model of the repository once: the first complete one of the snapshots, else the first."""
    chosen: dict[str, ModelFiles] = {}
    for snapshot in _snapshots(folder, revision):
        for model in find_models(snapshot, skips):
            shard = shard_of(model.files[0])
            known = chosen.get(model.relative)
            if known is None or (_lacks_shards(known) and shard and len(model.files) == shard.parts):
                chosen[model.relative] = model
    return list(chosen.values())


def _lacks_shards(model: ModelFiles) -> bool:
    shard = shard_of(model.files[0])
    return shard is not None and len(model.files) < shard.parts


def _snapshots(folder: Path, revision: str) -> list[Path]:
    """That of `revision` (a ref or a commit) first, then the others, newest first. Of a revision other than main,
    nothing else."""
    try:
        snapshots = [path for path in (folder / "snapshots").iterdir() if path.is_dir()]
    except OSError:
        return []
    commit = _commit(folder, revision)
    asked = [path for path in snapshots if path.name in (commit, revision)]
    if revision != "main":
        return asked
    others = sorted((path for path in snapshots if path not in asked), key=_changed_at, reverse=True)
    return asked + others


def _commit(folder: Path, revision: str) -> str:
    """The commit in the ref's file; "" without one."""
    try:
        return (folder / "refs" / revision).read_text(errors="replace")[:100].strip()
    except (OSError, ValueError):
        return ""


def _changed_at(path: Path) -> tuple[float, str]:
    try:
        return path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name
