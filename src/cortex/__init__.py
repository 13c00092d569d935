"""cortex: local LLMs on the GPUs you have, behind one URL that every client accepts."""

from functools import cache

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """`cortex.__version__`, looked up when it is asked for: the reader of package metadata is slow to import."""
    if name == "__version__":
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - see above

    try:
        return version("cortex")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0.0.0+uninstalled"
