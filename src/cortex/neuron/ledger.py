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

__all__ = ["Ledger", "Measurements", "measure_key", "measured_bytes"]

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
        self._sizes[key] = {str(index): size for index, size in enumerate(sizes)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(_Stored(sizes=self._sizes)))
        fresh.replace(self._path)


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


def measured_bytes(by_ggml_name: Mapping[str, int], devices: Sequence[str]) -> list[int] | None:
    """What llama.cpp reported ("CPU", "CUDA0", "CUDA1") for each of the worker's `devices`, in order.

    None when it named none of them. Host buffers of a GPU worker count for no device.
    """
    if len(devices) == 1 and devices[0].startswith("cpu"):
        return [sum(by_ggml_name.values())] if by_ggml_name else None
    prefixes = [f"{name.rstrip('0123456789.').upper()}{index}" for index, name in enumerate(devices)]
    found = [by_ggml_name.get(prefix, 0) for prefix in prefixes]
    return found if all(found) else None


def _read(path: Path) -> dict[str, dict[str, int]]:
    try:
        return dict(msgspec.json.decode(path.read_bytes(), type=_Stored).sizes)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("measured sizes are unreadable, estimates are used", extra={"path": path, "error": error})
        return {}
