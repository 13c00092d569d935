"""Memory that was freed goes back to the system, not only to the allocator."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

__all__ = ["give_back"]


def _trimmer() -> Callable[[int], int]:
    """malloc_trim(3) is glibc's own; musl and macOS give pages back by themselves."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return lambda _pad: 0
    trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
    return lambda pad: int(trim(pad))


_trim = _trimmer()


def give_back() -> None:
    """Return free pages of the C heap. Every load runs in a thread of its own, which glibc gives an arena of its own;
    what is freed there otherwise stays with the process, tens of megabytes on a machine with many cores."""
    _trim(0)
