"""Chat templates and bare vocabularies of real models, read from llama-cpp-python's source distribution.

`make venv` keeps that distribution in the cache; nothing of it is in this repository. The files that tests read are
unpacked beside it once.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from functools import cache
from pathlib import Path, PurePosixPath

from tests.models import cache_dir

__all__ = ["template", "template_names", "vocabulary_gguf"]

_MODELS = PurePosixPath("vendor/llama.cpp/models")


def template(name: str) -> str:
    """The source of a chat template, e.g. `template("Qwen-Qwen3-0.6B.jinja")`."""
    return (_unpacked() / "templates" / name).read_text()


def template_names() -> list[str]:
    """The file names that `template` accepts."""
    return sorted(path.name for path in (_unpacked() / "templates").glob("*.jinja"))


def vocabulary_gguf(name: str) -> Path:
    """A GGUF with a tokenizer and no weights, e.g. `vocabulary_gguf("qwen2")`."""
    return _unpacked() / f"ggml-vocab-{name}.gguf"


@cache
def _unpacked() -> Path:
    archive = _distribution()
    target = archive.with_name(archive.name.removesuffix(".tar.gz") + "-models")
    if not target.is_dir():
        unpacking = target.with_suffix(f".{os.getpid()}")
        _unpack(archive, unpacking)
        try:
            unpacking.rename(target)
        except OSError:  # another test process has unpacked it meanwhile
            shutil.rmtree(unpacking)
    return target


def _distribution() -> Path:
    found = sorted((cache_dir() / "sdist").glob("llama_cpp_python-*.tar.gz"))
    if not found:
        raise FileNotFoundError(f"no llama_cpp_python source distribution in {cache_dir() / 'sdist'}; run `make venv`")
    return found[-1]


def _unpack(archive: Path, target: Path) -> None:
    (target / "templates").mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or not path.is_relative_to(_MODELS):
                continue
            relative = path.relative_to(_MODELS)
            if relative.parent.name in {"", "templates"} and relative.suffix in {".jinja", ".gguf"}:
                content = tar.extractfile(member)
                assert content is not None
                (target / relative).write_bytes(content.read())
