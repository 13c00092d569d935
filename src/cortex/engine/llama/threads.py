"""The CPU threads that a context computes with."""

from __future__ import annotations

import ctypes

from cortex.engine.llama.library import loaded_library

__all__ = ["ThreadPool"]

_POLL = 50
"""How long threads spin before they sleep, 0 to 100 (ggml.h, ggml_threadpool_params.poll); ggml's own default."""


class ThreadPool:
    """ggml's own thread pools, kept between decodes: without them it makes and joins threads for every graph."""

    def __init__(self, library: ctypes.CDLL, pools: list[int]) -> None:
        self._library = library
        self._pools = pools

    @classmethod
    def attach(cls, context: int, threads: int, threads_batch: int) -> ThreadPool:
        """Make pools for a context handle: for single rows and for batches, one for both if they are equal."""
        library = loaded_library()
        library.ggml_threadpool_new.restype = ctypes.c_void_p
        library.ggml_threadpool_new.argtypes = [ctypes.POINTER(_ThreadPoolParams)]
        library.ggml_threadpool_free.argtypes = [ctypes.c_void_p]
        pool = library.ggml_threadpool_new(_thread_pool_params(threads))
        pools = [pool]
        if threads_batch != threads:
            pools.append(library.ggml_threadpool_new(_thread_pool_params(threads_batch)))
        library.llama_attach_threadpool.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        library.llama_attach_threadpool.restype = None
        library.llama_attach_threadpool(context, pools[0], pools[-1])
        return cls(library, pools)

    def close(self) -> None:
        """After the context was freed."""
        for pool in self._pools:
            self._library.ggml_threadpool_free(pool)
        self._pools = []


class _ThreadPoolParams(ctypes.Structure):
    """`ggml_threadpool_params` of ggml.h, which the bindings lack."""

    _fields_ = (
        ("cpumask", ctypes.c_bool * 512),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


def _thread_pool_params(threads: int) -> _ThreadPoolParams:
    return _ThreadPoolParams(n_threads=threads, poll=_POLL)
