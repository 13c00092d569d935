"""Writing a GGUF file: the last step of the tests' model builders."""

from __future__ import annotations

from pathlib import Path

from gguf import GGUFWriter

__all__ = ["write_out"]


def write_out(writer: GGUFWriter, path: Path) -> Path:
    """Write everything added to `writer`, which was made for `path`, and return `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
