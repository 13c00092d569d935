"""Downloads models from the Hugging Face Hub into its own cache: resumed, checked by hash, after a check of the disk.

Everything here blocks: call it in a thread. The cache's layout and its locks are huggingface_hub's, so other programs
share what is downloaded, and two processes never write one file. huggingface_hub is imported where it is used: a neuron
that has all its models starts a quarter faster without it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from cortex.config.profiles import Profile
from cortex.errors import BadRequest, CortexError, Forbidden, ModelLoadFailed, ModelNotFound, NoRoom, Unavailable

__all__ = ["Downloader", "OnProgress", "RemoteFile", "choose_files"]

logger = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]
"""(bytes present, bytes in total); called for every chunk, from the downloading thread."""

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_PREFERRED = ("Q4_K_M", "Q4_K_S", "Q5_K_M", "Q4_0", "Q8_0")
_SPARE_BYTES = 512 * 1024 * 1024
"""Free space that must be left on the disk: a full one breaks more than the download."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository; `size` in bytes. `sha256` is None for small files, which the hub keeps in git itself."""

    name: str
    size: int
    sha256: str | None


def choose_files(files: list[RemoteFile], profile: Profile) -> list[RemoteFile]:
    """The GGUF file of `profile` with all its shards, and its projector. Pure.

    The profile's `file` is a name, its `quant` part of one; without either the first of _PREFERRED is chosen. Raises
    ModelNotFound with the names there are.
    """
    models = [file for file in files if file.name.endswith(".gguf") and "mmproj" not in file.name]
    wanted = _named(models, profile)
    if not wanted:
        there = ", ".join(file.name for file in models) or "no GGUF file at all"
        raise ModelNotFound(f"{profile.repo or profile.id}: nothing matches; the repository has {there}")
    first = wanted[0]
    if match := _SHARD.search(first.name):
        stem = first.name[: match.start()]
        wanted = [file for file in models if file.name.startswith(stem) and _SHARD.search(file.name)]
    else:
        wanted = [first]
    return wanted + _projectors(files, profile)[:1]


def _projectors(files: list[RemoteFile], profile: Profile) -> list[RemoteFile]:
    """Those that the profile names; else all of the repository, half precision first: smaller ones lose accuracy,
    larger ones gain none."""
    if profile.mmproj:
        return [file for file in files if profile.mmproj in (file.name, Path(file.name).name)]
    found = [file for file in files if "mmproj" in file.name]
    return sorted(found, key=lambda file: ("f16" not in file.name.lower(), file.name))


def _named(models: list[RemoteFile], profile: Profile) -> list[RemoteFile]:
    if profile.file:
        return [file for file in models if file.name == profile.file or Path(file.name).name == profile.file]
    tags = (profile.quant,) if profile.quant else _PREFERRED
    for tag in tags:
        if found := [file for file in models if tag.upper() in file.name.upper()]:
            return found
    return models if profile.quant is None and len(models) == 1 else []


class Downloader:
    """Downloads into `cache`. Thread-safe. `endpoint` and `token` None = huggingface_hub's own (HF_ENDPOINT, HF_TOKEN,
    the login's file)."""

    def __init__(
        self, cache: Path, *, offline: bool = False, endpoint: str | None = None, token: str | None = None
    ) -> None:
        self._cache = cache
        self._offline = offline
        self._endpoint = endpoint
        self._token = token
        self._locks: dict[str, threading.Lock] = {}

    def fetch(self, profile: Profile, on_progress: OnProgress) -> list[Path]:
        """Download `profile`'s files unless they are here, and return their paths. Calls for one repository run one
        after the other, so that the second finds what the first downloaded.

        Raises ModelNotFound, Forbidden (gated), NoRoom, Unavailable (offline, the hub is down), ModelLoadFailed (hash).
        """
        repo = profile.repo or profile.id
        if self._offline:
            raise Unavailable(f"{repo} is not on this machine and neuron.offline is set")
        from huggingface_hub import HfApi  # noqa: PLC0415 - see the module's docstring

        with self._locks.setdefault(repo, threading.Lock()), _hub_errors(repo):
            info = HfApi(endpoint=self._endpoint, token=self._token).model_info(
                repo, revision=profile.revision, files_metadata=True
            )
            files = choose_files([_remote(sibling) for sibling in info.siblings or []], profile)
            self._check_disk(repo, files)
            return self._download(repo, info.sha or "main", files, on_progress)

    def _download(self, repo: str, revision: str, files: list[RemoteFile], on_progress: OnProgress) -> list[Path]:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - see the module's docstring

        total = sum(file.size for file in files)
        before, paths = 0, []
        for file in files:
            report = partial(_report, on_progress, before, total)
            path = Path(
                hf_hub_download(
                    repo,
                    file.name,
                    revision=revision,
                    cache_dir=self._cache,
                    endpoint=self._endpoint,
                    token=self._token,
                    tqdm_class=cast("Any", partial(_Bar, report)),  # any callable that returns a bar is accepted
                )
            )
            _check_hash(repo, file, path)
            before += file.size
            on_progress(before, total)
            paths.append(path)
        return paths

    def _check_disk(self, repo: str, files: list[RemoteFile]) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        missing = sum(file.size for file in files if not self._is_here(repo, file))
        free = shutil.disk_usage(self._cache).free
        if missing and missing + _SPARE_BYTES > free:
            lacking = missing + _SPARE_BYTES - free
            raise NoRoom(f"{repo} needs {missing} bytes on disk at {self._cache}; {lacking} too few are free")

    def _is_here(self, repo: str, file: RemoteFile) -> bool:
        blob = self._cache / f"models--{repo.replace('/', '--')}" / "blobs" / (file.sha256 or "")
        return file.sha256 is not None and blob.is_file()


def _report(on_progress: OnProgress, before: int, total: int, done: int) -> None:
    on_progress(min(before + done, total), total)


def _remote(sibling: Any) -> RemoteFile:
    lfs = sibling.lfs
    return RemoteFile(sibling.rfilename, int(sibling.size or 0), lfs.sha256 if lfs else None)


def _check_hash(repo: str, file: RemoteFile, path: Path) -> None:
    """Raises ModelLoadFailed and deletes the file when its hash is another: a proxy's error page or a bad disk would
    otherwise fail much later, inside llama.cpp."""
    if file.sha256 is None or _verified(path):
        return
    with path.open("rb") as data:
        found = hashlib.file_digest(data, "sha256").hexdigest()
    if found != file.sha256:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise ModelLoadFailed(f"{repo}/{file.name} arrived damaged and was removed; try again")
    path.resolve().with_suffix(".verified").touch()


def _verified(path: Path) -> bool:
    return path.resolve().with_suffix(".verified").exists()


class _Bar:
    """The part of tqdm that huggingface_hub uses: calls `report` with the bytes of one file, resumed ones included."""

    def __init__(self, report: Callable[[int], None], *, initial: int = 0, **_looks: Any) -> None:
        self.n = initial
        self._report = report

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def update(self, n: float | None = 1) -> None:
        self.n += int(n or 0)
        self._report(self.n)

    def close(self) -> None:
        """Called by huggingface_hub; nothing to release."""


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Map huggingface_hub's errors to ours: missing, gated and unreachable have different remedies."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # noqa: PLC0415 - see the module's docstring
        GatedRepoError,
        HFValidationError,
        HTTPError,  # of the httpx that huggingface_hub uses
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except CortexError:
        raise
    except HFValidationError as error:
        raise BadRequest(f"{repo!r} is no repository's name on the hub; write org/repo") from error
    except GatedRepoError as error:
        raise Forbidden(
            f"{repo} is gated: accept its terms at https://huggingface.co/{repo} and set HF_TOKEN to your token"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(f"{repo} has no such revision") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"there is no repository {repo} on the hub, or it is private and HF_TOKEN is missing"
        ) from error
    except LocalEntryNotFoundError as error:
        raise Unavailable(f"{repo} is not on this machine and the hub can't be reached", retry_after=60) from error
    except HTTPError as error:
        raise Unavailable(f"{repo}: the hub can't be reached or refuses: {error}", retry_after=60) from error
    except OSError as error:
        raise Unavailable(f"{repo}: the download can't be written or was cut: {error}", retry_after=60) from error
