"""Which models this host can serve: GGUF files under `model_dirs` and in the Hugging Face cache, under their profiles.

Names are stable: a file's stem, or `org/repo` from the cache (`org/repo:QUANT` where a repository has several files,
accepted as an alias always). Nothing here loads a model; a scan reads headers, and again only those that changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from cortex.config.profiles import Profile, Profiles
from cortex.neuron.catalog.gguf_header import BadGGUF, GGUFHeader, read_header
from cortex.neuron.catalog.quantisation import quantisation_of

__all__ = ["Catalog", "Entry", "HeaderCache", "file_name", "scan"]

_SHARD = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})$")
_SNAPSHOT = re.compile(r"models--(?P<org>[^/]+?)--(?P<repo>[^/]+)/snapshots/[^/]+/")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model. `header` is the first shard's, with every shard's tensors; None where `problem` says why.

    `files` holds every shard in order: the first is what llama.cpp is given. `mmproj` is the projector through which
    it sees, `projector` that one's header.
    """

    id: str
    profile: Profile
    files: tuple[Path, ...] = ()
    header: GGUFHeader | None = None
    mmproj: Path | None = None
    projector: GGUFHeader | None = None
    repo: str | None = None
    problem: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def path(self) -> Path | None:
        return self.files[0] if self.files else None

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files if path.exists())

    @property
    def quantisation(self) -> str:
        return quantisation_of(self.header) if self.header else ""


class HeaderCache:
    """Headers by (path, size, mtime): a rescan reads only what changed. Owned by the catalogue's one reader."""

    def __init__(self) -> None:
        self._headers: dict[tuple[Path, int, int], GGUFHeader | BadGGUF] = {}

    def read(self, path: Path) -> GGUFHeader:
        """Raises BadGGUF, remembered too: a broken file isn't read at every scan."""
        stat = path.stat()
        key = (path, stat.st_size, stat.st_mtime_ns)
        if key not in self._headers:
            try:
                self._headers[key] = read_header(path)
            except BadGGUF as error:
                self._headers[key] = error
        found = self._headers[key]
        if isinstance(found, BadGGUF):
            raise found
        return found


@dataclass(frozen=True)
class Catalog:
    """A snapshot, replaced whole by the next scan."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def resolve(self, name: str) -> str | None:
        """The id behind an id or an alias."""
        if name in self.entries:
            return name
        return next((entry.id for entry in self.entries.values() if name in entry.aliases), None)


def file_name(model_id: str) -> str:
    """`model_id` as a file name that no other id shares in practice and every file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]", "--", model_id)


def scan(directories: Iterable[Path], huggingface: Path | None, profiles: Profiles, headers: HeaderCache) -> Catalog:
    """Everything servable now. A broken file becomes an entry with a `problem`, never an exception."""
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
    """Each model's files: shards together, projectors left out, newest snapshot's copy of a blob once."""
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
        entry = replace(entry, header=_whole_header([headers.read(path) for path in files]))
    except (BadGGUF, OSError) as error:
        return replace(entry, problem=str(error))
    return _with_projector(entry, _projector_for(files[0]), headers)


def _whole_header(parts: list[GGUFHeader]) -> GGUFHeader:
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
    """The mmproj file beside a model: the only one there, or the one that shares the model's name."""
    projectors = sorted(path.parent.glob("*mmproj*.gguf"))
    named = [item for item in projectors if path.stem.rsplit("-", 1)[0] in item.stem]
    alone = len([other for other in path.parent.glob("*.gguf") if "mmproj" not in other.name]) == 1
    return next(iter(named or (projectors if alone else [])), None)


def _with_projector(entry: Entry, path: Path | None, headers: HeaderCache, *, chosen: bool = False) -> Entry:
    """`entry` with what it sees through. A projector that was found beside it and has no eyes (there are some for
    sound) is left alone; one that was `chosen` is a problem then."""
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
    """The profile's projector: beside the model or below the model directories, unless the path is absolute."""
    assert entry.path is not None
    places = [directory / name for directory in (Path(), entry.path.parent, *directories)]
    return next((path for path in places if path.is_file()), places[0])


def _under_profile(profile: Profile, found: dict[str, Entry], directories: list[Path], headers: HeaderCache) -> Entry:
    match = _match(profile, found, directories, headers)
    if match is None:
        return Entry(id=profile.id, profile=profile, problem=_not_here(profile), repo=_repo(profile))
    aliases = tuple(dict.fromkeys([*profile.aliases, *match.aliases]))
    entry = replace(match, id=profile.id, profile=profile, aliases=aliases)
    if profile.mmproj is None:
        return entry
    blind = profile.mmproj == "none"
    path = None if blind else _chosen_projector(profile.mmproj, entry, directories)
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


def _not_here(profile: Profile) -> str:
    if profile.source == "huggingface":
        return ""
    return f"{profile.file or profile.id}: no such GGUF file below the model directories"
