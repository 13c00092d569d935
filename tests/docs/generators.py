"""The modules of contrib/docs, which make the generated pages."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from tests.docs.blocks import ROOT

__all__ = ["generator"]


def generator(name: str) -> ModuleType:
    """A module of contrib/docs. They import each other as scripts do: by their bare names."""
    directory = str(ROOT / "contrib" / "docs")
    if directory not in sys.path:
        sys.path.append(directory)
    return importlib.import_module(name)
