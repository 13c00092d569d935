"""How many bytes of which device are reserved for which model, and what models took when they were last loaded.

A reservation is made in the same step as the decision to load and stays until the memory is released, so two loads
never count on the same bytes. Measured sizes are kept in the state directory by (GGUF, serving configuration, build)
and take precedence over estimates.
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
    """The file `measured.json`: bytes by measure key and device position."""

    version: int = 1
    sizes: dict[str, dict[str, int]] = {}


def measure_key(gguf_hash: str, configuration: object, build: str) -> str:
    """The key under which a measured size is valid: the file's content, everything that decides the size of its context
    (any msgspec-encodable value) and llama.cpp's build."""
    packed = msgspec.msgpack.encode([gguf_hash, configuration, build], enc_hook=str, order="deterministic")
    return hashlib.sha256(packed).hexdigest()[:32]


class Measurements:
    """Measured bytes per device of a load, kept across restarts in the file `path`. For the event loop only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes = _read(path)

    def get(self, key: str) -> list[int] | None:
        """In the order of the load's devices; None when it was never measured."""
        found = self._sizes.get(key)
        return [found[str(index)] for index in range(len(found))] if found else None

    def put(self, key: str, sizes: list[int]) -> None:
        """Keep `sizes` from now on; after a restart too, unless the file can't be written (logged)."""
        self._sizes[key] = {str(index): size for index, size in enumerate(sizes)}
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.encode(_Stored(sizes=self._sizes)))
            fresh.replace(self._path)
        except OSError as error:
            logger.warning("measured sizes not written", extra={"path": self._path, "error": error})


class Ledger:
    """The reservations in force. Written by `models.loader` and `models.registry` alone."""

    def __init__(self) -> None:
        self._lines: dict[str, list[Reservation]] = {}

    def reserve(self, model: str, bytes_by_device: Mapping[str, int]) -> None:
        """Replaces what `model` had reserved."""
        self._lines[model] = [Reservation(device, model, size) for device, size in bytes_by_device.items()]

    def record_measured(self, model: str, bytes_by_device: Mapping[str, int]) -> None:
        """As `reserve`, with measured sizes in place of the estimate."""
        lines = [Reservation(device, model, size, measured=True) for device, size in bytes_by_device.items()]
        self._lines[model] = lines

    def release(self, model: str) -> None:
        self._lines.pop(model, None)

    def lines(self) -> list[Reservation]:
        return [line for lines in self._lines.values() for line in lines]

    def held(self, device: str) -> int:
        """Bytes reserved on `device` for all models."""
        return sum(line.bytes for line in self.lines() if line.device == device)


def measured_bytes(by_buffer: Mapping[str, int], devices: Sequence[str], rpc: Sequence[str] = ()) -> list[int] | None:
    """Bytes of llama.cpp's buffers on each of `devices` (ggml's names: "CPU", "CUDA0"), then on each of the `rpc`
    endpoints, whose buffers are named "RPC0[host:port]".

    None when there is no buffer on one of them. Host buffers of a GPU worker ("CUDA_Host") count for no device. A
    tensor split has one buffer on all devices ("Meta()"), reported with the size of its largest part.
    """
    everywhere = sum(size for name, size in by_buffer.items() if name.startswith("Meta("))
    local = [by_buffer.get(name, 0) + (everywhere if name != "CPU" else 0) for name in devices]
    remote = [everywhere + sum(size for name, size in by_buffer.items() if f"[{endpoint}]" in name) for endpoint in rpc]
    complete = all(local) and all(remote) and len(set(devices)) == len(devices)  # CPU devices are one to llama.cpp
    return [*local, *remote] if complete else None


def grown_bytes(before: Sequence[int], after: Sequence[int], reported: Sequence[int] | None) -> list[int] | None:
    """Bytes by which a process has grown on each device; None where the driver doesn't list this process.

    In a container the driver's pids may be of another pid namespace: one that grew by less than llama.cpp `reported`
    to have allocated is another process.
    """
    grown = [later - sooner for sooner, later in zip(before, after, strict=True)]
    least = reported or [1] * len(grown)
    ours = all(after) and all(size >= floor for size, floor in zip(grown, least, strict=False))
    return grown if ours and grown else None


def _read(path: Path) -> dict[str, dict[str, int]]:
    try:
        return dict(msgspec.json.decode(path.read_bytes(), type=_Stored).sizes)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("measured sizes unreadable, using estimates", extra={"path": path, "error": error})
        return {}
