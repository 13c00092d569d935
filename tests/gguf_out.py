"""The end of every GGUF builder of the tests."""

from __future__ import annotations

from pathlib import Path

from gguf import GGUFWriter

__all__ = ["write_out"]


def write_out(writer: GGUFWriter, path: Path) -> Path:
    """Write all that `writer`, which was made for `path`, has been given; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
