"""Reads the header of a GGUF file: metadata and the sizes of tensors, without the tensors' data.

gguf's own GGUFReader builds an array per token, which takes seconds for a large vocabulary. This reader skips string
arrays (tokens, merges), at some 20 ms per 100,000 strings on the 2-core development machine. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

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


class BadGGUF(ValueError):
    """The file is no GGUF, is cut short, or has an unsupported version; the message names the file."""


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
        """A number, cut to an int; `default` where there is none or it is a list."""
        value = self.values.get(key, default)
        return int(value) if isinstance(value, int | float) else default

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    def hyper(self, key: str, default: int = 0) -> int:
        """A hyperparameter of the architecture: `hyper("block_count")` reads `llama.block_count`. The largest of a
        per-layer list."""
        value = self.values.get(f"{self.architecture}.{key}", default)
        if isinstance(value, list):
            return int(max(value, default=default))
        return int(value) if isinstance(value, int | float) else default

    def per_layer(self, key: str, layers: int, default: int = 0) -> list[int]:
        """As `hyper`, for each of `layers` layers, whether the file has one value or a list."""
        value = self.values.get(f"{self.architecture}.{key}", default)
        if isinstance(value, list):
            return [int(item) for item in value[:layers]] + [default] * (layers - len(value))
        return [int(value) if isinstance(value, int | float) else default] * layers

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
    """Read `path`; of its tensors' data only the samples for `hash`. Blocks. Raises BadGGUF, or OSError when it can't
    be opened."""
    with path.open("rb") as file:
        size = path.stat().st_size
        if size < 24:
            raise BadGGUF(f"{path}: {size} bytes are no GGUF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Reader(path, data, size).header()
            except (struct.error, UnicodeDecodeError, ValueError, OverflowError) as error:
                if isinstance(error, BadGGUF):
                    raise
                raise BadGGUF(f"{path}: the header is cut short or damaged ({error})") from error


class _Reader:
    """A cursor over the mapped file; `position` is in bytes from its start."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self.path, self.data, self.size, self.position = path, data, size, 0
        self.values: dict[str, Value] = {}
        self.array_lengths: dict[str, int] = {}

    def header(self) -> GGUFHeader:
        if self.data[:4] != b"GGUF":
            raise BadGGUF(f"{self.path}: not a GGUF file (it starts with {bytes(self.data[:4])!r})")
        self.position = 4
        version = self.unpack("<I")
        if version not in (2, 3):
            raise BadGGUF(f"{self.path}: GGUF version {version} is not supported, convert it anew (version 3)")
        tensor_count, value_count = self.unpack("<Q"), self.unpack("<Q")
        for _ in range(value_count):
            self.read_value()
        raw = [self.read_tensor_info() for _ in range(tensor_count)]
        tensors, data_offset = [tensor for tensor, _ in raw], self.aligned()
        end = max((data_offset + offset + tensor.bytes for tensor, offset in raw), default=0)
        if end > self.size:
            raise BadGGUF(f"{self.path}: the file is cut short, {end - self.size} of {end} bytes are missing")
        return GGUFHeader(
            path=self.path,
            values=self.values,
            array_lengths=self.array_lengths,
            tensors=tensors,
            size_bytes=self.size,
            hash=self.content_hash(),
        )

    def unpack(self, fmt: str) -> int:
        (value,) = struct.unpack_from(fmt, self.data, self.position)
        self.position += struct.calcsize(fmt)
        return value  # type: ignore[no-any-return]  # the format decides; callers asking for "<Q" get an int

    def string(self) -> str:
        length = self.unpack("<Q")
        if self.position + length > self.size:
            raise BadGGUF(f"{self.path}: the header is cut short or damaged")
        self.position += length
        return self.data[self.position - length : self.position].decode()

    def read_value(self) -> None:
        key = self.string()
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
        if kind is GGUFValueType.STRING:
            self.skip_strings(length)
            return
        width = struct.calcsize(_SCALARS[kind])
        if self.position + length * width > self.size:
            raise BadGGUF(f"{self.path}: the header is cut short or damaged")
        if length <= _SHORT_ARRAY:
            self.values[key] = list(struct.unpack_from(f"<{length}{_SCALARS[kind][1]}", self.data, self.position))
        self.position += length * width

    def skip_strings(self, count: int) -> None:
        position, unpack_from, data = self.position, struct.Struct("<Q").unpack_from, self.data
        for _ in range(count):
            position += 8 + unpack_from(data, position)[0]
        self.position = position

    def read_tensor_info(self) -> tuple[Tensor, int]:
        name = self.string()
        shape = tuple(self.unpack("<Q") for _ in range(self.unpack("<I")))
        kind, offset = self.unpack("<I"), self.unpack("<Q")
        return Tensor(name, shape, kind, _tensor_bytes(kind, shape)), offset

    def aligned(self) -> int:
        alignment = self.values.get("general.alignment", 32)
        assert isinstance(alignment, int)
        return -(-self.position // alignment) * alignment

    def content_hash(self) -> str:
        digest = hashlib.sha256(self.data[: self.position])
        digest.update(str(self.size).encode())
        for index in range(_SAMPLES):
            start = self.position + (self.size - self.position) * index // _SAMPLES
            digest.update(self.data[start : start + _SAMPLE_BYTES])
        return digest.hexdigest()


def _tensor_bytes(kind: int, shape: tuple[int, ...]) -> int:
    """Bytes of the tensor's data; 0 for a type newer than the gguf package, which the load then reports."""
    try:
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except ValueError:
        return 0
    return math.prod(shape) // block * block_bytes
