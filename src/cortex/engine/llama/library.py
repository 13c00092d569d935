"""llama.cpp as a library: start, log, devices, RPC servers."""

from __future__ import annotations

import ctypes
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import llama_cpp
from llama_cpp import llama_cpp as c

from cortex.errors import CortexError, ModelLoadFailed, NoRoom

__all__ = [
    "LogTap",
    "add_rpc_servers",
    "device_list",
    "device_names",
    "is_accelerator",
    "load_error",
    "loaded_library",
    "start_backend",
    "system_info",
    "version",
]

# ggml.h, ggml_log_level
_LEVEL_WARN = 3
_LEVEL_ERROR = 4
_LEVEL_CONTINUE = 5
_KEPT_LINES = 50
"""Error lines kept per thread: the first ones tell the reason."""
_BUFFER_LINE = re.compile(r"(?P<device>[\w:.()\[\]]+)\s+(?:\w+ )?buffer size\s*=\s*(?P<mib>[\d.]+) MiB")
_BUFFER_KIND = re.compile(r"_(Mapped|REPACK|Private)$")
"""Suffixes of ggml's buffer names: a device may have buffers of several kinds."""
_OUT_OF_MEMORY = re.compile(r"out of memory|insufficient memory|(failed|unable) to allocate")
_LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_held_by_c: list[object] = []
"""Callbacks that llama.cpp may call until the process ends: if one were freed, its next log line would crash."""


class LogTap:
    """Receives llama.cpp's log: warnings and errors go to stderr, all lines if `verbose`, and each thread may collect
    the errors of its own calls. `on_line` is called with every line, in the thread that caused it.

    llama.cpp reports why a load failed in its log only. Its callback runs in the thread that made the call, so the
    thread's id tells which call a line belongs to. Once installed, it lives as long as the process.
    """

    def __init__(self, *, verbose: bool = False, on_line: Callable[[str], None] = lambda _: None) -> None:
        self._on_line = on_line
        self._threshold = 0 if verbose else _LEVEL_WARN
        self._level = 0
        self._errors: dict[int, list[str]] = {}
        self._buffers: dict[int, dict[str, int]] = {}
        self.callback = _LOG_CALLBACK(self._on_log)

    def install(self) -> None:
        _held_by_c.append(self.callback)
        llama_cpp.llama_log_set(self.callback, None)

    @contextmanager
    def errors(self) -> Iterator[list[str]]:
        """Collects the error lines that llama.cpp writes in this thread inside the block."""
        thread = threading.get_ident()
        lines = self._errors[thread] = []
        try:
            yield lines
        finally:
            del self._errors[thread]

    def buffers(self) -> dict[str, int]:
        """Bytes by device that llama.cpp has reported in this thread since the last call."""
        return self._buffers.pop(threading.get_ident(), {})

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Buffers that this thread makes inside the block are freed again soon: they aren't counted."""
        thread = threading.get_ident()
        kept = self._buffers.pop(thread, {})
        try:
            yield
        finally:
            self._buffers[thread] = kept

    def _on_log(self, level: int, text: bytes, _user: object) -> None:
        if level != _LEVEL_CONTINUE:
            self._level = level
        line = text.decode("utf-8", "replace")
        self._on_line(line)
        if found := _BUFFER_LINE.search(line):
            self.count(found["device"], int(float(found["mib"]) * 1024 * 1024))
        if self._level < self._threshold:
            return
        sys.stderr.write(line)
        collected = self._errors.get(threading.get_ident())
        if collected is not None and self._level >= _LEVEL_ERROR and len(collected) < _KEPT_LINES:
            collected.append(line.strip())

    def count(self, device: str, size: int) -> None:
        """Add `size` bytes on `device` to this thread's count."""
        device = _BUFFER_KIND.sub("", device)
        buffers = self._buffers.setdefault(threading.get_ident(), {})
        buffers[device] = buffers.get(device, 0) + size


def load_error(what: str, errors: Sequence[str]) -> CortexError:
    """The error for what llama.cpp logged while it failed: NoRoom if memory was lacking, else ModelLoadFailed.

    The first line is the reason: the following ones report the same failure from outer layers.
    """
    error = NoRoom if any(_OUT_OF_MEMORY.search(line) for line in errors) else ModelLoadFailed
    return error(f"{what}: {errors[0] if errors else 'it gave no reason (see the log of its worker)'}")


def start_backend() -> None:
    """Initialise llama.cpp. Once per process, before anything else of this package."""
    c.llama_backend_init()


def version() -> str:
    """The version of the bindings, which pins llama.cpp's, e.g. "llama-cpp-python 0.3.36"."""
    return f"llama-cpp-python {llama_cpp.__version__}"


def system_info() -> str:
    """llama.cpp's line on CPU features and backends (llama_print_system_info)."""
    info: str = c.llama_print_system_info().decode()
    return info.strip()


def loaded_library() -> ctypes.CDLL:
    """llama.cpp as the bindings loaded it; functions of the ggml libraries that it links are found through it as well.

    Opening libggml*.so by path would load a second copy beside the `.so.0` that libllama links (a wheel has no links,
    only copies), with tables and registries of its own that were never initialised: threads of a pool made there
    computed garbage on repacked weights.
    """
    library: ctypes.CDLL = c._lib  # noqa: SLF001 - the handle has no public name
    return library


def _ggml() -> ctypes.CDLL:
    """The ggml registry functions, which the bindings leave out."""
    library = loaded_library()
    for name, arguments, result in (
        ("ggml_backend_dev_count", [], ctypes.c_size_t),
        ("ggml_backend_dev_get", [ctypes.c_size_t], ctypes.c_void_p),
        ("ggml_backend_dev_by_name", [ctypes.c_char_p], ctypes.c_void_p),
        ("ggml_backend_dev_name", [ctypes.c_void_p], ctypes.c_char_p),
        ("ggml_backend_register", [ctypes.c_void_p], None),
        ("ggml_backend_reg_dev_count", [ctypes.c_void_p], ctypes.c_size_t),
        ("ggml_backend_reg_dev_get", [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_void_p),
        ("ggml_backend_reg_by_name", [ctypes.c_char_p], ctypes.c_void_p),
        ("ggml_backend_reg_get_proc_address", [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_void_p),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library


def device_names() -> list[str]:
    """ggml's names of the devices in this process ("CPU", "CUDA0", "RPC0")."""
    ggml = _ggml()
    return [
        ggml.ggml_backend_dev_name(ggml.ggml_backend_dev_get(i)).decode() for i in range(ggml.ggml_backend_dev_count())
    ]


def is_accelerator(name: str) -> bool:
    """Whether ggml's `name` is a device of this host that layers are put on: not the CPU, nor BLAS, which computes in
    its memory, nor a device of another host."""
    return not name.startswith(("CPU", "BLAS", "RPC"))


def add_rpc_servers(endpoints: Sequence[str]) -> list[str]:
    """Register the devices of RPC servers; the names of all their devices, in the endpoints' order.

    Raises ModelLoadFailed when this build has no RPC backend or an endpoint doesn't answer.
    """
    ggml = _ggml()
    registry = ggml.ggml_backend_reg_by_name(b"RPC")
    address = registry and ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_rpc_add_server")
    if not address:
        raise ModelLoadFailed("this build of llama.cpp has no RPC backend; rebuild it with -DGGML_RPC=ON")
    add_server = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(address)
    names: list[str] = []
    for endpoint in endpoints:
        server = add_server(endpoint.encode())
        if not server:
            raise ModelLoadFailed(f"the RPC device server at {endpoint} doesn't answer; is it running there?")
        ggml.ggml_backend_register(server)
        devices = (ggml.ggml_backend_reg_dev_get(server, i) for i in range(ggml.ggml_backend_reg_dev_count(server)))
        names += [ggml.ggml_backend_dev_name(device).decode() for device in devices]
    return names


def device_list(names: Sequence[str]) -> ctypes.Array[ctypes.c_void_p]:
    """The NULL-terminated array that `llama_model_params.devices` takes. Raises ModelLoadFailed for an unknown name."""
    ggml = _ggml()
    devices = [ggml.ggml_backend_dev_by_name(name.encode()) for name in names]
    if None in devices:
        missing = names[devices.index(None)]
        raise ModelLoadFailed(f"llama.cpp sees no device {missing!r} here, only {', '.join(device_names())}")
    return (ctypes.c_void_p * (len(devices) + 1))(*devices, None)
