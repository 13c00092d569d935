"""Finds the models that this host can serve: GGUF files below the model directories and in the Hugging Face cache,
with their profiles.

Ids are stable (`catalog.names`): a file's stem, or `org/repo` from the cache. A scan reads headers only, and only of
files that have changed since the last.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cortex.config.profiles import Profile, Profiles
from cortex.neuron.catalog.entry import Catalog, Entry
from cortex.neuron.catalog.files import ModelFiles, SkipLog, find_models, is_file, is_gguf, shard_of, stem_of
from cortex.neuron.catalog.gguf_header import BadGGUF, GGUFHeader, read_header
from cortex.neuron.catalog.hub_cache import cached_models, models_of_revision
from cortex.neuron.catalog.names import Names, cache_names, local_names, tag_of

__all__ = ["HeaderCache", "scan"]

logger = logging.getLogger(__name__)

_MAX_SHARDS, _MAX_TENSORS = 1_000, 65_536
"""Of one model, in all its shards. Real models have up to some hundred and some 2,000."""
_NAMED_SHARDS = 3
"""How many missing shards are named: the message is part of every status."""


class HeaderCache:
    """Headers by path, with what tells a changed file (device, inode, size, mtime), so that a rescan reads only files
    that changed: a link that leads to another file of equal size and time is one. And what has been logged as left out.
    Two threads may share it."""

    def __init__(self) -> None:
        self._headers: dict[Path, tuple[tuple[int, ...], GGUFHeader | BadGGUF]] = {}
        self.skips = SkipLog()

    def read(self, path: Path) -> GGUFHeader:
        """Raises OSError, and BadGGUF, which is cached as well: a broken file isn't read at every scan."""
        stat = path.stat()
        key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        known = self._headers.get(path)
        if known is None or known[0] != key:
            known = self._headers[path] = (key, _header_or_error(path))
        if isinstance(known[1], BadGGUF):
            raise known[1]
        return known[1]


def _header_or_error(path: Path) -> GGUFHeader | BadGGUF:
    """Raises OSError. Any other exception is a bug in the reader that this file has found, and costs this file only."""
    try:
        return read_header(path)
    except BadGGUF as error:
        return error
    except OSError:
        raise
    except Exception as error:
        logger.exception("a GGUF header can't be read", extra={"path": path})
        return BadGGUF(f"{path}: its header can't be read ({type(error).__name__})")


def scan(directories: Iterable[Path], huggingface: Path | None, profiles: Profiles, headers: HeaderCache) -> Catalog:
    """Every model in `directories`, the cache `huggingface` and `profiles`. Blocks, for seconds if files are many.

    A broken file becomes an entry with a `problem`, never an exception.
    """
    places = _Places(list(directories), huggingface)
    found = _found(places, headers)
    claimed = {profile.id: _under_profile(profile, found, places, headers) for profile in profiles.models}
    hidden = {path for entry in claimed.values() for path in entry.files}
    plain = {name: entry for name, entry in found.items() if not hidden.intersection(entry.files)}
    return Catalog(_with_clear_aliases({**plain, **claimed}), tuple(_clashes(plain, claimed)))


def _clashes(plain: dict[str, Entry], claimed: dict[str, Entry]) -> Iterator[str]:
    """A sentence for each name that two different files have."""
    for name in plain.keys() & claimed.keys():
        served, hidden = claimed[name].path or "no file", plain[name].path
        yield f"{name}: the profile of that name serves {served}; {hidden} has the same name and is not served"
    entries = {**plain, **claimed}
    for profile in (entry.profile for entry in claimed.values()):
        for alias in profile.aliases:
            if alias in entries and alias != profile.id:
                yield f"{alias}: an alias of {profile.id}, but {entries[alias].path} is served under that name"


@dataclass(frozen=True, slots=True)
class _Places:
    """Where files are looked for."""

    directories: list[Path]
    hub: Path | None


def _found(places: _Places, headers: HeaderCache) -> dict[str, Entry]:
    """Every model without regard to profiles."""
    local: list[ModelFiles] = []
    seen: set[Path] = set()
    for directory in places.directories:
        local += find_models(directory, headers.skips, seen)
    found: dict[str, Entry] = {}
    for model, (name, aliases) in zip(local, local_names(local), strict=True):
        found[name] = replace(_entry(name, model.files, headers), aliases=aliases)
    for repo, models in (cached_models(places.hub, headers.skips) if places.hub is not None else {}).items():
        for entry in _cached(repo, models, headers):
            name = entry.id if entry.id not in found else next(iter(entry.aliases), entry.id)
            if name in found:
                headers.skips.skip(str(entry.path), f"{found[name].path} is served under the same name, {name}")
            else:
                found[name] = replace(entry, id=name, aliases=tuple(set(entry.aliases) - {name}))
    return found


def _cached(repo: str, models: Sequence[ModelFiles], headers: HeaderCache) -> list[Entry]:
    entries = [replace(_entry(repo, model.files, headers), repo=repo) for model in models]
    named: list[Names] = cache_names(repo, models, [entry.quantisation for entry in entries])
    return [replace(entry, id=name, aliases=aliases) for entry, (name, aliases) in zip(entries, named, strict=True)]


def _with_clear_aliases(entries: dict[str, Entry]) -> dict[str, Entry]:
    """`entries` without the aliases that are another's id or that several have; a profile's own stay."""
    uses = Counter(name for entry in entries.values() for name in {entry.id, *entry.aliases})

    def kept(entry: Entry) -> tuple[str, ...]:
        return tuple(name for name in entry.aliases if uses[name] == 1 or name in entry.profile.aliases)

    return {name: replace(entry, aliases=kept(entry)) for name, entry in entries.items()}


def _entry(name: str, files: Sequence[Path], headers: HeaderCache) -> Entry:
    entry = Entry(id=name, profile=Profile(id=name), files=tuple(files))
    if problem := _shard_problem(files):
        return replace(entry, problem=problem)
    try:
        entry = replace(entry, header=_joined_header([headers.read(path) for path in files]))
        return _with_projector(entry, _projector_for(files[0]), headers)
    except (ValueError, OSError) as error:  # BadGGUF, or a name that no file can have
        return replace(entry, header=None, problem=str(error))


def _joined_header(parts: list[GGUFHeader]) -> GGUFHeader:
    """Raises BadGGUF."""
    first = parts[0]
    if len(parts) == 1:
        return first
    tensors = [tensor for part in parts for tensor in part.tensors]
    if len(tensors) > _MAX_TENSORS:
        raise BadGGUF(f"{first.path}: its shards have {len(tensors)} tensors, more than any model")
    return replace(first, tensors=tensors, size_bytes=sum(part.size_bytes for part in parts))


def _shard_problem(files: Sequence[Path]) -> str:
    """Which shards are missing; "" for none."""
    shard = shard_of(files[0])
    if shard is None:
        return ""
    if not 1 <= shard.parts <= _MAX_SHARDS:
        return f"{files[0]}: claims to be one of {shard.parts} shards"
    have = {part.part for part in map(shard_of, files) if part is not None}
    missing = [
        f"{shard.stem}-{part:05d}-of-{shard.parts:05d}.gguf" for part in range(1, shard.parts + 1) if part not in have
    ]
    if not missing:
        return (
            ""
            if len(files) == shard.parts
            else f"{files[0].parent}: there are more files than {shard.parts} shards of {shard.stem}"
        )
    more = f" and {len(missing) - _NAMED_SHARDS} more" if len(missing) > _NAMED_SHARDS else ""
    named = ", ".join(missing[:_NAMED_SHARDS])
    return f"{files[0].parent}: shard {named}{more} is missing"


def _projector_for(path: Path) -> Path | None:
    """The mmproj file beside a model: one with the model's name in its own, else any where there is no other model.
    Raises OSError."""
    files = sorted(item for item in path.parent.iterdir() if is_gguf(item.name))
    projectors = [item for item in files if "mmproj" in item.name.lower()]
    named = [item for item in projectors if stem_of(path.name).rsplit("-", 1)[0] in item.stem]
    alone = len(files) - len(projectors) == 1
    return next(iter(named or (projectors if alone else [])), None)


def _with_projector(entry: Entry, path: Path | None, headers: HeaderCache, *, chosen: bool = False) -> Entry:
    """`entry` with the projector at `path`, None for none. One without a vision encoder (there are some for audio) is
    ignored, unless the profile has `chosen` it: then it is a problem."""
    if path is None:
        return replace(entry, mmproj=None, projector=None)
    try:
        header = headers.read(path)
    except (ValueError, OSError) as error:
        return replace(entry, problem=f"mmproj {path}: {error}")
    if header.values.get("clip.has_vision_encoder"):
        return replace(entry, mmproj=path, projector=header)
    return replace(entry, problem=f"mmproj {path} has no vision encoder") if chosen else entry


def _chosen_projector(name: str, entry: Entry, directories: list[Path]) -> Path:
    """The projector that the profile names: an absolute path, or one relative to the current directory, the model's or
    a model directory."""
    assert entry.path is not None
    places = [directory / name for directory in (Path(), entry.path.parent, *directories)]
    return next((path for path in places if is_file(path)), places[0])


def _under_profile(profile: Profile, found: dict[str, Entry], places: _Places, headers: HeaderCache) -> Entry:
    try:
        match = _match(profile, found, places, headers)
    except OSError as error:  # its folder can't be read
        return Entry(id=profile.id, profile=profile, problem=str(error))
    if match is None:
        return Entry(id=profile.id, profile=profile, problem=_missing(profile, found), repo=_repo(profile))
    aliases = tuple(dict.fromkeys([*profile.aliases, *match.aliases]))
    entry = replace(match, id=profile.id, profile=profile, aliases=aliases)
    if profile.mmproj is None:
        return entry
    path = None if profile.mmproj == "none" else _chosen_projector(profile.mmproj, entry, places.directories)
    return _with_projector(entry, path, headers, chosen=True)


def _match(profile: Profile, found: dict[str, Entry], places: _Places, headers: HeaderCache) -> Entry | None:
    if profile.source == "huggingface":
        return _match_cached(profile, _of_repo(profile, found, places, headers))
    if profile.file is None:
        return _by_name(profile.id, found)
    for path in [directory / profile.file for directory in [Path(), *places.directories]]:
        if is_file(path):
            return _entry(profile.id, _all_shards(path), headers)
    return None


def _by_name(name: str, found: dict[str, Entry]) -> Entry | None:
    return found.get(name) or next((entry for entry in found.values() if name in entry.aliases), None)


def _of_repo(profile: Profile, found: dict[str, Entry], places: _Places, headers: HeaderCache) -> list[Entry]:
    """The models of the profile's repository, at its revision where it names one."""
    repo = _repo(profile) or ""
    if profile.revision is None or places.hub is None:
        return [entry for entry in found.values() if entry.repo == repo]
    models = models_of_revision(places.hub, repo, profile.revision, headers.skips)
    return _cached(repo, models, headers) if models else []


def _match_cached(profile: Profile, same: list[Entry]) -> Entry | None:
    """The entry that the profile asks for; without a file or quantisation, the one of the repository's bare name."""
    if profile.file:
        same = [entry for entry in same if entry.path and entry.path.as_posix().endswith(f"/{profile.file}")]
    elif profile.quant:
        quant = profile.quant.upper()
        exact = [entry for entry in same if quant in (tag_of(entry.files), entry.quantisation)]
        same = exact or [entry for entry in same if quant in str(entry.path).upper()]
    return next((entry for entry in same if entry.repo in (entry.id, *entry.aliases)), next(iter(same), None))


def _repo(profile: Profile) -> str | None:
    return (profile.repo or profile.id) if profile.source == "huggingface" else None


def _all_shards(path: Path) -> list[Path]:
    """Every shard of the model that `path` is any shard of."""
    shard = shard_of(path)
    if shard is None:
        return [path]
    others = [(shard_of(item), item) for item in path.parent.iterdir() if is_gguf(item.name)]
    return sorted(item for other, item in others if other and (other.stem, other.parts) == (shard.stem, shard.parts))


def _missing(profile: Profile, found: dict[str, Entry]) -> str:
    if profile.source == "huggingface":
        return ""
    if profile.file is None and (several := [name for name in found if name.endswith(f"/{profile.id}")]):
        return f"{profile.id}: several files have that name ({', '.join(several)}); give the profile a `file`"
    return f"{profile.file or profile.id}: no such GGUF file below the model directories"
