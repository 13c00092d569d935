"""Finds the models that this host can serve: GGUF files below the model directories and in the Hugging Face cache,
with their profiles.

Ids are stable: a file's stem, or `org/repo` from the cache (`org/repo:QUANT` where a repository has several files; that
form is always an alias). A scan reads headers only, and only of files that have changed since the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from cortex.config.profiles import Profile, Profiles
from cortex.neuron.catalog.entry import Catalog, Entry
from cortex.neuron.catalog.gguf_header import BadGGUF, GGUFHeader, read_header

__all__ = ["HeaderCache", "scan"]

_SHARD = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})$")
_SNAPSHOT = re.compile(r"models--(?P<org>[^/]+?)--(?P<repo>[^/]+)/snapshots/[^/]+/")


class HeaderCache:
    """Headers by path and what tells a changed file, so that a rescan reads only files that changed: a link that leads
    to another file of equal size and time is one. Two threads may share it."""

    def __init__(self) -> None:
        self._headers: dict[tuple[Path, int, int, int, int], GGUFHeader | BadGGUF] = {}

    def read(self, path: Path) -> GGUFHeader:
        """Raises OSError, and BadGGUF, which is cached as well: a broken file isn't read at every scan."""
        stat = path.stat()
        key = (path, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if key not in self._headers:
            try:
                self._headers[key] = read_header(path)
            except BadGGUF as error:
                self._headers[key] = error
        found = self._headers[key]
        if isinstance(found, BadGGUF):
            raise found
        return found


def scan(directories: Iterable[Path], huggingface: Path | None, profiles: Profiles, headers: HeaderCache) -> Catalog:
    """Every model in `directories`, the cache `huggingface` and `profiles`. Blocks, for seconds if files are many.

    A broken file becomes an entry with a `problem`, never an exception.
    """
    found: dict[str, Entry] = {}
    for entry in _found(directories, huggingface, headers):
        found[_free_name(entry, found)] = replace(entry, id=_free_name(entry, found))
    claimed = {profile.id: _under_profile(profile, found, list(directories), headers) for profile in profiles.models}
    hidden = {path for entry in claimed.values() for path in entry.files}
    plain = {name: entry for name, entry in found.items() if not hidden.intersection(entry.files)}
    return Catalog({**plain, **claimed})


def _free_name(entry: Entry, taken: dict[str, Entry]) -> str:
    if entry.id not in taken or taken[entry.id].files == entry.files:
        return entry.id
    assert entry.path is not None
    return f"{entry.path.parent.name}/{entry.id}"


def _found(directories: Iterable[Path], huggingface: Path | None, headers: HeaderCache) -> Iterator[Entry]:
    for directory in directories:
        for files in _models_in(directory):
            yield _entry(_SHARD.sub(r"\g<stem>", files[0].stem), files, headers)
    if huggingface is not None:
        yield from _cached(huggingface, headers)


def _cached(hub: Path, headers: HeaderCache) -> Iterator[Entry]:
    by_repo: dict[str, list[list[Path]]] = {}
    for files in _models_in(hub):
        if match := _SNAPSHOT.search(files[0].as_posix()):
            by_repo.setdefault(f"{match['org']}/{match['repo']}", []).append(files)
    for repo, models in by_repo.items():
        for files in models:
            entry = replace(_entry(repo, files, headers), repo=repo)
            long_name = f"{repo}:{entry.quantisation or files[0].stem}"
            yield replace(entry, id=repo if len(models) == 1 else long_name, aliases=(long_name,))


def _models_in(directory: Path) -> list[list[Path]]:
    """The files of each model: its shards together, projectors left out, a blob that several snapshots link to once."""
    groups: dict[Path, list[Path]] = {}
    seen: set[Path] = set()
    for path in sorted(directory.rglob("*.gguf")) if directory.is_dir() else []:
        if not path.is_file() or "mmproj" in path.name or path.resolve() in seen:
            continue
        seen.add(path.resolve())
        groups.setdefault(path.with_name(_SHARD.sub(r"\g<stem>", path.stem)), []).append(path)
    return list(groups.values())


def _entry(name: str, files: list[Path], headers: HeaderCache) -> Entry:
    entry = Entry(id=name, profile=Profile(id=name), files=tuple(files))
    if missing := _missing_shards(files):
        return replace(entry, problem=f"{files[0].parent}: shard {', '.join(missing)} is missing")
    try:
        entry = replace(entry, header=_joined_header([headers.read(path) for path in files]))
    except (BadGGUF, OSError) as error:
        return replace(entry, problem=str(error))
    return _with_projector(entry, _projector_for(files[0]), headers)


def _joined_header(parts: list[GGUFHeader]) -> GGUFHeader:
    first = parts[0]
    if len(parts) == 1:
        return first
    tensors = [tensor for part in parts for tensor in part.tensors]
    return replace(first, tensors=tensors, size_bytes=sum(part.size_bytes for part in parts))


def _missing_shards(files: list[Path]) -> list[str]:
    match = _SHARD.match(files[0].stem)
    if not match:
        return []
    have = {path.name for path in files}
    parts = int(match["parts"])
    names = [f"{match['stem']}-{part:05d}-of-{parts:05d}.gguf" for part in range(1, parts + 1)]
    return [name for name in names if name not in have]


def _projector_for(path: Path) -> Path | None:
    """The mmproj file beside a model: one with the model's name in its own, else any where there is no other model."""
    projectors = sorted(path.parent.glob("*mmproj*.gguf"))
    named = [item for item in projectors if path.stem.rsplit("-", 1)[0] in item.stem]
    alone = len([other for other in path.parent.glob("*.gguf") if "mmproj" not in other.name]) == 1
    return next(iter(named or (projectors if alone else [])), None)


def _with_projector(entry: Entry, path: Path | None, headers: HeaderCache, *, chosen: bool = False) -> Entry:
    """`entry` with the projector at `path`, None for none. One without a vision encoder (there are some for audio) is
    ignored, unless the profile has `chosen` it: then it is a problem."""
    if path is None:
        return replace(entry, mmproj=None, projector=None)
    try:
        header = headers.read(path)
    except (BadGGUF, OSError) as error:
        return replace(entry, problem=f"mmproj {path}: {error}")
    if header.values.get("clip.has_vision_encoder"):
        return replace(entry, mmproj=path, projector=header)
    return replace(entry, problem=f"mmproj {path} has no vision encoder") if chosen else entry


def _chosen_projector(name: str, entry: Entry, directories: list[Path]) -> Path:
    """The projector that the profile names: an absolute path, or one relative to the current directory, the model's or
    a model directory."""
    assert entry.path is not None
    places = [directory / name for directory in (Path(), entry.path.parent, *directories)]
    return next((path for path in places if path.is_file()), places[0])


def _under_profile(profile: Profile, found: dict[str, Entry], directories: list[Path], headers: HeaderCache) -> Entry:
    match = _match(profile, found, directories, headers)
    if match is None:
        return Entry(id=profile.id, profile=profile, problem=_missing(profile), repo=_repo(profile))
    aliases = tuple(dict.fromkeys([*profile.aliases, *match.aliases]))
    entry = replace(match, id=profile.id, profile=profile, aliases=aliases)
    if profile.mmproj is None:
        return entry
    path = None if profile.mmproj == "none" else _chosen_projector(profile.mmproj, entry, directories)
    return _with_projector(entry, path, headers, chosen=True)


def _match(profile: Profile, found: dict[str, Entry], directories: list[Path], headers: HeaderCache) -> Entry | None:
    if profile.source == "huggingface":
        return _match_cached(profile, found)
    if profile.file is None:
        return found.get(profile.id)
    for path in [directory / profile.file for directory in [Path(), *directories]]:
        if path.is_file():
            return _entry(profile.id, _all_shards(path), headers)
    return None


def _match_cached(profile: Profile, found: dict[str, Entry]) -> Entry | None:
    repo = _repo(profile)
    same = [entry for entry in found.values() if entry.repo == repo]
    if profile.file:
        same = [entry for entry in same if entry.path and entry.path.as_posix().endswith(profile.file)]
    elif profile.quant:
        quant = profile.quant.upper()
        same = [entry for entry in same if entry.quantisation == quant or quant in str(entry.path).upper()]
    return same[0] if same else None


def _repo(profile: Profile) -> str | None:
    return (profile.repo or profile.id) if profile.source == "huggingface" else None


def _all_shards(path: Path) -> list[Path]:
    """Every shard of the model that `path` is any shard of."""
    match = _SHARD.match(path.stem)
    if not match:
        return [path]
    return sorted(path.parent.glob(f"{match['stem']}-*-of-{match['parts']}.gguf"))


def _missing(profile: Profile) -> str:
    if profile.source == "huggingface":
        return ""
    return f"{profile.file or profile.id}: no such GGUF file below the model directories"
