"""cortex: local LLMs on the GPUs you have, behind one URL that every client accepts."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cortex")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0+uninstalled"

__all__ = ["__version__"]
