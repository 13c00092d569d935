"""How the neuron starts what runs llama.cpp: always a process of its own."""

from __future__ import annotations

import sys

__all__ = ["engine_command"]


def engine_command(module: str, *arguments: str) -> list[str]:
    """`cortex.engine.<module>` under this interpreter. With -P a file of the directory that we were started in can't
    stand in for a library."""
    return [sys.executable, "-P", "-m", f"cortex.engine.{module}", *arguments]
