"""Reads the header of a GGUF file: metadata and the sizes of tensors, without the tensors' data.

gguf's own GGUFReader builds an array per token, which takes seconds for a large vocabulary. This reader skips string
arrays (tokens, merges), at some 20 ms per 100,000 strings on the 2-core development machine. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType, LlamaFileType

__all__ = ["BadGGUF", "GGUFHeader", "Tensor", "Value", "read_header"]

Value = int | float | bool | str | list[int | float | bool]

_SCALARS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}
_SHORT_ARRAY = 4096
"""Number arrays up to this length may hold a value per layer and are kept; longer ones belong to the tokenizer."""
_SAMPLES, _SAMPLE_BYTES = 16, 64 * 1024
"""What `GGUFHeader.hash` reads of the tensors' data: samples at equal distances."""
_READ_BYTES = 1024 * 1024
"""Read at first; doubled as the header proves longer."""
_MAX_HEADER_BYTES, _MAX_STRINGS, _MAX_ENTRIES = 128 * 1024 * 1024, 4_000_000, 65_536
"""Far beyond real models, whose headers have up to 30 MB, a million tokens and merges, and 2,000 tensors. They bound
the time for a file of unknown origin: 4 million strings took 0.7 s on the 2-core development machine (2026-11)."""
_MAX_KEPT_BYTES, _ENTRY_BYTES, _NUMBER_BYTES = 64 * 1024 * 1024, 400, 32
"""Bytes of memory for all values and tensors together; of one entry; of one number in a list."""
_MAX_LAYERS, _MAX_DIMENSIONS, _MAX_NAME_BYTES = 512, 4, 256
"""LLAMA_MAX_LAYERS (llama-hparams.h), GGML_MAX_DIMS (ggml.h); four times GGML_MAX_NAME."""
_MAX_ELEMENTS, _MAX_NUMBER = 2**40, 2**31 - 1
"""Elements of a tensor; a hyperparameter. What is computed from them stays within what a status can hold."""


class BadGGUF(ValueError):
    """The file is no GGUF, is cut short, has an unsupported version, or says what no model does; the message names the
    file and has at most some hundred characters more."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """`shape` in GGUF's order, the contiguous dimension first; `type` is ggml's; `bytes` of its data."""

    name: str
    shape: tuple[int, ...]
    type: int
    bytes: int


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """A file's header, or that of all shards of a model together.

    `values` are the metadata except string arrays and long arrays; `array_lengths` has the lengths of all arrays.
    `hash` is a SHA-256 of the header, the file's size and samples of its data: equal for copies of one file, and fast
    for 100 GB.
    """

    path: Path
    values: dict[str, Value]
    array_lengths: dict[str, int]
    tensors: list[Tensor]
    size_bytes: int
    hash: str

    def text(self, key: str, default: str = "") -> str:
        """A string value; `default` where there is none or it is no string."""
        value = self.values.get(key, default)
        return value if isinstance(value, str) else default

    def number(self, key: str, default: int = 0) -> int:
        """A number, cut to an int within 0 and 2³¹ - 1; `default` where there is none or it is something else."""
        return _whole(self.values.get(key), default)

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    def hyper(self, key: str, default: int = 0) -> int:
        """A hyperparameter of the architecture: `hyper("block_count")` reads `llama.block_count`. The largest of a
        per-layer list."""
        value = self.values.get(f"{self.architecture}.{key}")
        if isinstance(value, list):
            return max((_whole(item, default) for item in value), default=default)
        return _whole(value, default)

    def per_layer(self, key: str, layers: int, default: int = 0) -> list[int]:
        """As `hyper`, for each of `layers` layers, whether the file has one value or a list."""
        value = self.values.get(f"{self.architecture}.{key}")
        if isinstance(value, list):
            return [_whole(item, default) for item in value[:layers]] + [default] * (layers - len(value))
        return [_whole(value, default)] * layers

    @property
    def parameters(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def quantisation(self) -> str:
        """The usual name of the quantisation (`Q4_K_M`): from `general.file_type`; without it, the tensor type with
        most bytes. "unknown" for a type newer than the gguf package."""
        if "general.file_type" in self.values:
            try:
                name = LlamaFileType(self.number("general.file_type")).name
            except ValueError:
                return "unknown"
            return name.removeprefix("MOSTLY_").removeprefix("ALL_")
        by_type: Counter[int] = Counter()
        for tensor in self.tensors:
            by_type[tensor.type] += tensor.bytes
        if not by_type:
            return ""
        try:
            return GGMLQuantizationType(by_type.most_common(1)[0][0]).name
        except ValueError:
            return "unknown"


def read_header(path: Path) -> GGUFHeader:
    """Read `path`; of its tensors' data only the samples for `hash`. Blocks, for less than 3 s and 300 MB whatever the
    file says. Raises BadGGUF, or OSError when it can't be opened or read."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 24:
            raise BadGGUF(f"{path}: {size} bytes are no GGUF file")
        try:
            return _Reader(path, file, size).header()
        except BadGGUF:
            raise
        except (struct.error, ValueError, OverflowError) as error:
            raise BadGGUF(f"{path}: the header is cut short or damaged ({error})") from error


class _Reader:
    """A cursor over the start of a file; `position` is in bytes from there, `data` is what has been read so far.

    Read rather than mapped: a mapped file that another program cuts short kills the process that reads it (SIGBUS).
    """

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.size, self.position = path, file, size, 0
        self.data = bytearray()
        self.kept_bytes = self.strings = 0
        self.values: dict[str, Value] = {}
        self.array_lengths: dict[str, int] = {}

    def header(self) -> GGUFHeader:
        self.need(24)
        if self.data[:4] != b"GGUF":
            raise BadGGUF(f"{self.path}: not a GGUF file (it starts with {bytes(self.data[:4])!r})")
        self.position = 4
        version = self.unpack("<I")
        if version not in (2, 3):
            raise BadGGUF(f"{self.path}: GGUF version {version} is not supported, convert it anew (version 3)")
        tensor_count, value_count = self.unpack("<Q"), self.unpack("<Q")
        if max(tensor_count, value_count) > _MAX_ENTRIES:
            raise self.too_much(f"{tensor_count} tensors and {value_count} values")
        for _ in range(value_count):
            self.read_value()
        raw = [self.read_tensor_info() for _ in range(tensor_count)]
        tensors, data_offset = [tensor for tensor, _ in raw], self.aligned()
        end = max((data_offset + offset + tensor.bytes for tensor, offset in raw), default=0)
        if end > self.size:
            raise BadGGUF(f"{self.path}: the file is cut short, {end - self.size} of {end} bytes are missing")
        header = GGUFHeader(
            path=self.path,
            values=self.values,
            array_lengths=self.array_lengths,
            tensors=tensors,
            size_bytes=self.size,
            hash=self.content_hash(),
        )
        self.check(header)
        return header

    def check(self, header: GGUFHeader) -> None:
        """Refuse what the estimate of its memory and llama.cpp can't work with."""
        if len(header.architecture) > _MAX_NAME_BYTES:
            raise self.too_much(f"an architecture's name of {len(header.architecture)} characters")
        layers = self.values.get(f"{header.architecture}.block_count", 0)
        if not isinstance(layers, int) or not 0 <= layers <= _MAX_LAYERS:
            raise BadGGUF(f"{self.path}: block_count is {layers!r:.40}, not a number of layers up to {_MAX_LAYERS}")

    def need(self, end: int) -> None:
        """Have the first `end` bytes of the file in `data`."""
        if end <= len(self.data):
            return
        if end > self.size:
            raise BadGGUF(f"{self.path}: the header is cut short or damaged")
        if end > _MAX_HEADER_BYTES:
            raise self.too_much(f"a header of {end} bytes or more")
        wanted = min(max(end, 2 * len(self.data), _READ_BYTES), self.size, _MAX_HEADER_BYTES)
        self.data += self.file.read(wanted - len(self.data))
        if end > len(self.data):
            raise BadGGUF(f"{self.path}: the file is cut short, or was while it was read")

    def too_much(self, what: str) -> BadGGUF:
        return BadGGUF(f"{self.path}: {what} are more than any model has; the header is damaged")

    def keep(self, size: int) -> None:
        """Count `size` bytes of memory for what has been read."""
        self.kept_bytes += size
        if self.kept_bytes > _MAX_KEPT_BYTES:
            raise self.too_much(f"{self.kept_bytes} bytes of metadata")

    def unpack(self, fmt: str) -> int:
        end = self.position + struct.calcsize(fmt)
        self.need(end)
        (value,) = struct.unpack_from(fmt, self.data, self.position)
        self.position = end
        return value  # type: ignore[no-any-return]  # the format decides; callers asking for "<Q" get an int

    def string(self) -> str:
        """A string; what isn't UTF-8 in it is replaced, as it would be for display."""
        length = self.unpack("<Q")
        self.keep(length)
        self.need(self.position + length)
        self.position += length
        return self.data[self.position - length : self.position].decode(errors="replace")

    def read_value(self) -> None:
        key = self.string()
        self.keep(_ENTRY_BYTES)
        kind = GGUFValueType(self.unpack("<I"))
        if kind is GGUFValueType.ARRAY:
            self.read_array(key)
        elif kind is GGUFValueType.STRING:
            self.values[key] = self.string()
        else:
            self.values[key] = self.unpack(_SCALARS[kind])

    def read_array(self, key: str) -> None:
        kind, length = GGUFValueType(self.unpack("<I")), self.unpack("<Q")
        self.array_lengths[key] = length
        if kind is GGUFValueType.ARRAY:
            raise BadGGUF(f"{self.path}: {key[:80]!r} is an array of arrays, which llama.cpp doesn't read either")
        if kind is GGUFValueType.STRING:
            self.skip_strings(length)
            return
        width = struct.calcsize(_SCALARS[kind])
        self.need(self.position + length * width)
        if length <= _SHORT_ARRAY:
            self.keep(_NUMBER_BYTES * length)
            self.values[key] = list(struct.unpack_from(f"<{length}{_SCALARS[kind][1]}", self.data, self.position))
        self.position += length * width

    def skip_strings(self, count: int) -> None:
        self.strings += count
        if self.strings > _MAX_STRINGS:
            raise self.too_much(f"{self.strings} strings")
        position, unpack_from, data = self.position, struct.Struct("<Q").unpack_from, self.data
        for _ in range(count):
            if position + 8 > len(data):
                self.need(position + 8)
            position += 8 + unpack_from(data, position)[0]
        self.need(position)
        self.position = position

    def read_tensor_info(self) -> tuple[Tensor, int]:
        name = self.string()
        self.keep(_ENTRY_BYTES)
        dimensions = self.unpack("<I")
        if dimensions > _MAX_DIMENSIONS or len(name) > _MAX_NAME_BYTES:
            raise self.too_much(f"{dimensions} dimensions of the tensor {name[:80]!r}")
        shape = tuple(self.unpack("<Q") for _ in range(dimensions)) or (1,)
        kind, offset = self.unpack("<I"), self.unpack("<Q")
        if math.prod(shape) > _MAX_ELEMENTS:
            raise self.too_much(f"{math.prod(shape)} elements of the tensor {name[:80]!r}")
        return Tensor(name, shape, kind, _tensor_bytes(kind, shape)), offset

    def aligned(self) -> int:
        alignment = self.values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise BadGGUF(f"{self.path}: general.alignment is {alignment!r:.40}, not a number of bytes")
        return -(-self.position // alignment) * alignment

    def content_hash(self) -> str:
        with memoryview(self.data) as data:
            digest = hashlib.sha256(data[: self.position])
        digest.update(str(self.size).encode())
        for index in range(_SAMPLES):
            self.file.seek(self.position + (self.size - self.position) * index // _SAMPLES)
            digest.update(self.file.read(_SAMPLE_BYTES))
        return digest.hexdigest()


def _whole(value: object, default: int) -> int:
    """`value` as a number of something: cut to an int within 0 and 2³¹ - 1; `default` where it is none (NaN, a
    string)."""
    if not isinstance(value, int | float) or math.isnan(value):
        return default
    return int(min(max(value, 0), _MAX_NUMBER))


def _tensor_bytes(kind: int, shape: tuple[int, ...]) -> int:
    """Bytes of the tensor's data; 0 for a type newer than the gguf package, which the load then reports."""
    try:
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        return 0
    return math.prod(shape) // block * block_bytes
