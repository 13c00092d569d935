"""A GGUF's header without its tensors' data: what the file is, before anyone loads it.

gguf's own GGUFReader builds an array per token and needs seconds for a large vocabulary; a scan of a model directory
must not. This reader skips what nobody asks for (tokens, merges) and takes some 20 ms per 100,000 strings. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

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
"""Arrays up to this length hold per-layer numbers and are kept; longer ones belong to the tokenizer."""
_SAMPLES, _SAMPLE_BYTES = 16, 64 * 1024


class BadGGUF(ValueError):
    """The file is no GGUF, is cut short, or is of a version nobody reads; the message names the file."""


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    type: int
    bytes: int


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """`values` are the metadata but for string arrays and long arrays, whose lengths are in `array_lengths`.

    `hash` covers the header, the size and samples of the data: equal for copies of one file, cheap for 100 GB.
    `tokenizer_hash` tells whether two models read the same token ids.
    """

    path: Path
    values: dict[str, Value]
    array_lengths: dict[str, int]
    tensors: list[Tensor]
    size_bytes: int
    hash: str
    tokenizer_hash: str

    def text(self, key: str, default: str = "") -> str:
        value = self.values.get(key, default)
        return value if isinstance(value, str) else default

    def number(self, key: str, default: int = 0) -> int:
        value = self.values.get(key, default)
        return int(value) if isinstance(value, int | float) else default

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    def hyper(self, key: str, default: int = 0) -> int:
        """An architecture's number, `hyper("block_count")` reading `llama.block_count`; a per-layer list gives its
        largest."""
        value = self.values.get(f"{self.architecture}.{key}", default)
        if isinstance(value, list):
            return int(max(value, default=default))
        return int(value) if isinstance(value, int | float) else default

    def per_layer(self, key: str, layers: int, default: int = 0) -> list[int]:
        """An architecture's number for each layer, whether the file holds one or a list."""
        value = self.values.get(f"{self.architecture}.{key}", default)
        if isinstance(value, list):
            return [int(item) for item in value[:layers]] + [default] * (layers - len(value))
        return [int(value) if isinstance(value, int | float) else default] * layers

    @property
    def parameters(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors)


def read_header(path: Path) -> GGUFHeader:
    """Read `path` without touching its tensors' pages. Raises BadGGUF, or OSError when it can't be opened."""
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
    """A cursor over the mapped file."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self.path, self.data, self.size, self.at = path, data, size, 0
        self.values: dict[str, Value] = {}
        self.array_lengths: dict[str, int] = {}
        self.tokenizer = hashlib.sha256()

    def header(self) -> GGUFHeader:
        if self.data[:4] != b"GGUF":
            raise BadGGUF(f"{self.path}: not a GGUF file (it starts with {bytes(self.data[:4])!r})")
        self.at = 4
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
            tokenizer_hash=self.tokenizer.hexdigest(),
        )

    def unpack(self, fmt: str) -> int:
        (value,) = struct.unpack_from(fmt, self.data, self.at)
        self.at += struct.calcsize(fmt)
        return value  # type: ignore[no-any-return]  # the format decides; callers asking for "<Q" get an int

    def string(self) -> str:
        length = self.unpack("<Q")
        if self.at + length > self.size:
            raise BadGGUF(f"{self.path}: the header is cut short or damaged")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def read_value(self) -> None:
        key = self.string()
        start, kind = self.at, GGUFValueType(self.unpack("<I"))
        if kind is GGUFValueType.ARRAY:
            self.read_array(key)
        elif kind is GGUFValueType.STRING:
            self.values[key] = self.string()
        else:
            self.values[key] = self.unpack(_SCALARS[kind])
        if key.startswith("tokenizer.ggml."):
            self.tokenizer.update(key.encode() + self.data[start : self.at])

    def read_array(self, key: str) -> None:
        kind, length = GGUFValueType(self.unpack("<I")), self.unpack("<Q")
        self.array_lengths[key] = length
        if kind is GGUFValueType.STRING:
            self.skip_strings(length)
            return
        width = struct.calcsize(_SCALARS[kind])
        if self.at + length * width > self.size:
            raise BadGGUF(f"{self.path}: the header is cut short or damaged")
        if length <= _SHORT_ARRAY:
            self.values[key] = list(struct.unpack_from(f"<{length}{_SCALARS[kind][1]}", self.data, self.at))
        self.at += length * width

    def skip_strings(self, count: int) -> None:
        at, unpack_from, data = self.at, struct.Struct("<Q").unpack_from, self.data
        for _ in range(count):
            at += 8 + unpack_from(data, at)[0]
        self.at = at

    def read_tensor_info(self) -> tuple[Tensor, int]:
        name = self.string()
        shape = tuple(self.unpack("<Q") for _ in range(self.unpack("<I")))
        kind, offset = self.unpack("<I"), self.unpack("<Q")
        return Tensor(name, shape, kind, _tensor_bytes(kind, shape)), offset

    def aligned(self) -> int:
        alignment = self.values.get("general.alignment", 32)
        assert isinstance(alignment, int)
        return -(-self.at // alignment) * alignment

    def content_hash(self) -> str:
        digest = hashlib.sha256(self.data[: self.at])
        digest.update(str(self.size).encode())
        for index in range(_SAMPLES):
            start = self.at + (self.size - self.at) * index // _SAMPLES
            digest.update(self.data[start : start + _SAMPLE_BYTES])
        return digest.hexdigest()


def _tensor_bytes(kind: int, shape: tuple[int, ...]) -> int:
    """Bytes of the tensor's data; 0 for a type newer than our table (the load will tell)."""
    try:
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except ValueError:
        return 0
    return math.prod(shape) // block * block_bytes
