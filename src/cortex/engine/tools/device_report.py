"""Prints which devices this build of llama.cpp finds, as a JSON DeviceReport.

`python -m cortex.engine.tools.device_report`. For devices that NVML doesn't know (ROCm, Vulkan, Metal). Asking opens
their drivers, so this is a process of its own, which its caller may kill.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

import msgspec

from cortex.engine.llama.library import LogTap, loaded_library, start_backend, version
from cortex.wire.reports import DeviceReport, GgmlDevice

__all__ = ["device_report", "main", "print_report"]

_TYPES = ("cpu", "gpu", "igpu", "accel", "meta")
"""`enum ggml_backend_dev_type`, in its order."""


class _Properties(ctypes.Structure):
    """`struct ggml_backend_dev_props` of ggml-backend.h; the capabilities behind these fields are four booleans."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("capabilities", ctypes.c_bool * 64),  # room for those that a later version adds
    )


def device_report() -> DeviceReport:
    """The devices of this process's llama.cpp, whose backends have been started."""
    ggml = loaded_library()
    for name, arguments, result in (
        ("ggml_backend_dev_count", [], ctypes.c_size_t),
        ("ggml_backend_dev_get", [ctypes.c_size_t], ctypes.c_void_p),
        ("ggml_backend_dev_get_props", [ctypes.c_void_p, ctypes.POINTER(_Properties)], None),
        ("ggml_backend_dev_backend_reg", [ctypes.c_void_p], ctypes.c_void_p),
        ("ggml_backend_reg_name", [ctypes.c_void_p], ctypes.c_char_p),
    ):
        function = getattr(ggml, name)
        function.argtypes, function.restype = arguments, result
    found = [_device(ggml, ggml.ggml_backend_dev_get(index)) for index in range(ggml.ggml_backend_dev_count())]
    return DeviceReport(found, version())


def _device(ggml: ctypes.CDLL, device: int) -> GgmlDevice:
    properties = _Properties()
    ggml.ggml_backend_dev_get_props(device, ctypes.byref(properties))
    known = (
        properties.type if properties.type < len(_TYPES) else _TYPES.index("accel")
    )  # no models are placed on a type that is unknown here
    return GgmlDevice(
        name=properties.name.decode(),
        backend=ggml.ggml_backend_reg_name(ggml.ggml_backend_dev_backend_reg(device)).decode(),
        type=_TYPES[known],  # type: ignore[arg-type]  # the tuple has exactly the literal's values
        description=(properties.description or b"").decode(errors="replace"),
        memory_free=properties.memory_free,
        memory_total=properties.memory_total,
        device_id=properties.device_id.decode() if properties.device_id else None,
    )


def print_report(make: Callable[[], msgspec.Struct]) -> None:
    """Print the JSON of `make()` to standard output; what drivers print meanwhile goes to standard error."""
    answer = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(answer, "wb") as out:
        out.write(msgspec.json.encode(make()))


def main() -> int:
    def make() -> DeviceReport:
        LogTap().install()
        start_backend()
        return device_report()

    print_report(make)
    return 0


if __name__ == "__main__":
    sys.exit(main())
