"""Loading and unloading: freed memory is returned to the system."""

from __future__ import annotations

import ctypes
import sys

import psutil
import pytest

from cortex.engine.loading import return_free_pages

MIB = 1024 * 1024
BLOCK = 64 * 1024
"""Below glibc's least threshold for mappings of their own: such blocks come from the heap."""


@pytest.mark.skipif(sys.platform != "linux", reason="other allocators keep or return pages as they like")
def test_freed_blocks_behind_one_that_lives_are_returned() -> None:
    c = ctypes.CDLL(None)
    c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, (ctypes.c_size_t,), (ctypes.c_void_p,)
    process = psutil.Process()
    blocks = [c.malloc(BLOCK) for _ in range(512)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    full = process.memory_full_info().uss
    for block in blocks[:-1]:
        c.free(block)
    return_free_pages()
    assert process.memory_full_info().uss < full - 24 * MIB
    c.free(blocks[-1])
