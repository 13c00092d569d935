"""Who was promised how many bytes of which device, and what models really took when they were last loaded.

A reservation is made in the same step as the decision to load and stays until the memory is given back, so two loads
never count on the same bytes. Measured sizes are kept in the state directory by (GGUF, serving configuration, build)
and beat the estimate from then on.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from cortex.wire.status import Reservation

__all__ = ["Ledger", "Measurements", "grown_bytes", "measure_key", "measured_bytes"]

logger = logging.getLogger(__name__)


class _Stored(Struct, frozen=True):
    version: int = 1
    sizes: dict[str, dict[str, int]] = {}


def measure_key(gguf_hash: str, configuration: object, build: str) -> str:
    """What a measured size holds for: the file's content, everything that decides a context's size, llama.cpp's
    build."""
    packed = msgspec.msgpack.encode([gguf_hash, configuration, build], enc_hook=str, order="deterministic")
    return hashlib.sha256(packed).hexdigest()[:32]


class Measurements:
    """Bytes by device position ("0", "1"), remembered across restarts in one small file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes = _read(path)

    def get(self, key: str) -> list[int] | None:
        found = self._sizes.get(key)
        return [found[str(index)] for index in range(len(found))] if found else None

    def put(self, key: str, sizes: list[int]) -> None:
        """Known from now on, and after a restart if it can be written."""
        self._sizes[key] = {str(index): size for index, size in enumerate(sizes)}
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.encode(_Stored(sizes=self._sizes)))
            fresh.replace(self._path)
        except OSError as error:
            logger.warning("measured sizes are not kept", extra={"path": self._path, "error": error})


class Ledger:
    """The promises in force. Its one writer is the residency."""

    def __init__(self) -> None:
        self._lines: dict[str, list[Reservation]] = {}

    def reserve(self, model: str, bytes_by_device: Mapping[str, int]) -> None:
        self._lines[model] = [Reservation(device, model, size) for device, size in bytes_by_device.items()]

    def settle(self, model: str, bytes_by_device: Mapping[str, int]) -> None:
        """Replace the estimate by what was measured."""
        lines = [Reservation(device, model, size, measured=True) for device, size in bytes_by_device.items()]
        self._lines[model] = lines

    def release(self, model: str) -> None:
        self._lines.pop(model, None)

    def lines(self) -> list[Reservation]:
        return [line for lines in self._lines.values() for line in lines]

    def held(self, device: str) -> int:
        return sum(line.bytes for line in self.lines() if line.device == device)


def measured_bytes(by_buffer: Mapping[str, int], devices: Sequence[str], rpc: Sequence[str] = ()) -> list[int] | None:
    """What llama.cpp reported of its buffers for each of the worker's devices (ggml's names "CPU", "CUDA0") and then
    for each of the `rpc` endpoints, whose buffers it calls "RPC0[host:port]".

    None when it named none for one of them. Host buffers of a GPU worker count for no device. A split within layers
    has one buffer on all devices alike ("Meta()"), whose size is that of the largest part.
    """
    everywhere = sum(size for name, size in by_buffer.items() if name.startswith("Meta("))
    local = [by_buffer.get(name, 0) + (everywhere if name != "CPU" else 0) for name in devices]
    remote = [everywhere + sum(size for name, size in by_buffer.items() if f"[{endpoint}]" in name) for endpoint in rpc]
    told = all(local) and all(remote) and len(set(devices)) == len(devices)  # CPU devices are one to llama.cpp
    return [*local, *remote] if told else None


def grown_bytes(before: Sequence[int], after: Sequence[int], reported: Sequence[int] | None) -> list[int] | None:
    """By how much a process has grown on each device; None where the driver doesn't tell of this process.

    In a container the driver's process ids may be another world's: what grew by less than llama.cpp says it allocated
    is somebody else.
    """
    grown = [later - sooner for sooner, later in zip(before, after, strict=True)]
    least = reported or [1] * len(grown)
    told = all(after) and all(size >= floor for size, floor in zip(grown, least, strict=False))
    return grown if told and grown else None


def _read(path: Path) -> dict[str, dict[str, int]]:
    try:
        return dict(msgspec.json.decode(path.read_bytes(), type=_Stored).sizes)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("measured sizes are unreadable, estimates are used", extra={"path": path, "error": error})
        return {}
