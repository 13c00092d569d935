"""Serves this host's devices to llama.cpp on other hosts: `python -m cortex.engine.tools.rpc_server --listen H:P`.

The protocol is ggml's own RPC. It has no authentication and lets its peer read and write its memory, so the address
must be on loopback or in a private network; the neuron checks that before it starts this. A process of its own: a peer
may crash it, and the memory of its clients is freed with it. It ends at the end of its standard input (the parent is
gone).
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import threading

from cortex.engine.llama.library import device_list, device_names, is_accelerator, loaded_library, start_backend

__all__ = ["main"]


def main() -> None:
    """Serve until killed; exit code 1 if the address can't be bound."""
    parser = argparse.ArgumentParser(prog="python -m cortex.engine.tools.rpc_server")
    parser.add_argument("--listen", required=True, help="HOST:PORT")
    parser.add_argument("--threads", type=int, default=1, help="threads of the CPU device (default 1)")
    options = parser.parse_args()
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    start_backend()
    names = list(filter(is_accelerator, device_names())) or ["CPU"]
    serve = loaded_library().ggml_backend_rpc_start_server
    serve.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
    serve.restype = None
    serve(options.listen.encode(), None, options.threads, len(names), device_list(names))
    sys.exit(1)  # it returns only if it can't serve


def _exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
