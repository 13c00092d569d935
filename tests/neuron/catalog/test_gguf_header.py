"""Headers: right for good files, a clear word for bad ones."""

from __future__ import annotations

import math
import struct
import time
from pathlib import Path

import msgspec
import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortex.config.profiles import Profile
from cortex.neuron.catalog.entry import Entry
from cortex.neuron.catalog.gguf_header import BadGGUF, read_header
from cortex.neuron.memory.estimate import estimate
from cortex.neuron.models.card import card_of
from cortex.neuron.models.load_plan import shape_of
from tests.models import smollm2
from tests.neuron.gguf_files import write_gguf


def test_the_header_agrees_with_the_reference_reader(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", layers=3)
    ours, theirs = read_header(path), GGUFReader(path)
    assert [(t.name, t.bytes) for t in ours.tensors] == [(t.name, t.n_bytes) for t in theirs.tensors]
    assert ours.array_lengths["tokenizer.ggml.tokens"] == 64
    assert ours.hyper("block_count") == 3
    assert ours.text("tokenizer.chat_template") == "{{ messages }}"


def test_a_real_model_is_read_without_its_tensors() -> None:
    header = read_header(smollm2())
    assert (header.architecture, header.parameters) == ("llama", 134_515_008)
    assert header.array_lengths["tokenizer.ggml.tokens"] == 49_152


def test_a_copy_has_the_same_hash_and_a_file_with_another_vocabulary_another(tmp_path: Path) -> None:
    first = read_header(write_gguf(tmp_path / "a.gguf"))
    assert first.hash == read_header(write_gguf(tmp_path / "b.gguf")).hash
    other = read_header(write_gguf(tmp_path / "c.gguf", vocabulary=65))
    assert first.hash != other.hash


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "no GGUF"), (b"PK\x03\x04" + bytes(60), "not a GGUF"), (b"GGUF\x09\0\0\0" + bytes(60), "version 9")],
)
def test_what_is_no_gguf_is_called_so(content: bytes, word: str, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(BadGGUF, match=word):
        read_header(tmp_path / "x.gguf")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(cut=st.integers(1, 20_000))
def test_a_file_cut_anywhere_is_refused_with_a_reason(cut: int, tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: max(len(whole) - cut, 0)])
    with pytest.raises(BadGGUF, match=r"cut short|no GGUF"):
        read_header(tmp_path / "cut.gguf")


def raw_header(values: bytes = b"", *, value_count: int = 0, tensors: bytes = b"", tensor_count: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensor_count, value_count) + values + tensors


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def number(key: str, kind: str, value: float) -> bytes:
    """A key with one value: u32, f32 or u64."""
    code, fmt = {"u32": (4, "<I"), "f32": (6, "<f"), "u64": (10, "<Q")}[kind]
    return text(key) + struct.pack("<I", code) + struct.pack(fmt, value)


ARCHITECTURE = text("general.architecture") + struct.pack("<I", 8) + text("llama")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (raw_header(text("k") + struct.pack("<IIQ", 9, 9, 1), value_count=1), "array of arrays"),
        (raw_header(text("k") + struct.pack("<I", 99), value_count=1), "99"),
        (raw_header(number("general.alignment", "u32", 0), value_count=1), "alignment"),
        (raw_header(number("general.alignment", "f32", math.nan), value_count=1), "alignment"),
        (raw_header(text("k") + struct.pack("<IIQ", 9, 8, 2**33), value_count=1), "strings"),
        (raw_header(text("k") + struct.pack("<IIQ", 9, 0, 2**63), value_count=1), "cut short"),
        (raw_header(value_count=2**63), "values"),
        (raw_header(tensor_count=2**33), "tensors"),
        (raw_header(struct.pack("<Q", 2**63), value_count=1), "bytes of metadata"),
        (raw_header(tensors=text("t") + struct.pack("<I", 2**31), tensor_count=1), "dimensions"),
        (raw_header(tensors=text("t") + struct.pack("<IQQIQ", 2, 2**62, 2**62, 999, 0), tensor_count=1), "elements"),
        (raw_header(ARCHITECTURE + number("llama.block_count", "u32", 2**31), value_count=2), "block_count"),
        (raw_header(ARCHITECTURE + number("llama.block_count", "f32", math.inf), value_count=2), "block_count"),
        (raw_header(ARCHITECTURE + number("llama.block_count", "f32", math.nan), value_count=2), "block_count"),
    ],
)
def test_a_header_that_says_what_no_model_does_is_refused_at_once(content: bytes, word: str, tmp_path: Path) -> None:
    """In a sparse file, so that every length in the header is within the file."""
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(2**37)
    began = time.process_time()
    with pytest.raises(BadGGUF, match=word) as refused:
        read_header(path)
    assert time.process_time() - began < 3.0
    assert len(str(refused.value)) < 500


def test_a_header_of_many_strings_is_read_within_bounded_time(tmp_path: Path) -> None:
    """As many as the reader takes at all, in a sparse file."""
    path = tmp_path / "x.gguf"
    path.write_bytes(raw_header(text("k") + struct.pack("<IIQ", 9, 8, 4_000_000), value_count=1))
    with path.open("r+b") as file:
        file.truncate(2**37)
    began = time.process_time()
    assert read_header(path).array_lengths == {"k": 4_000_000}
    assert time.process_time() - began < 3.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -5.0, 1e30])
def test_a_number_is_whole_and_small_enough_to_calculate_with(value: float, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    values = number("llama.context_length", "f32", value) + number("general.file_type", "f32", value)
    path.write_bytes(raw_header(ARCHITECTURE + values, value_count=3))
    header = read_header(path)
    assert 0 <= header.hyper("context_length") < 2**31
    assert all(0 <= item < 2**31 for item in header.per_layer("context_length", 3))
    assert isinstance(header.quantisation, str)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(data=st.data())
def test_a_mutated_header_is_read_or_refused_and_nothing_else(data: st.DataObject, tmp_path: Path) -> None:
    """Bytes overwritten anywhere in the header: whatever comes out of it can be estimated and sent."""
    whole = tmp_path / "whole.gguf"
    content = bytearray((whole if whole.exists() else write_gguf(whole)).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, 2600))
        patch = data.draw(st.sampled_from(PATCHES) | st.binary(min_size=1, max_size=8))
        content[place : place + len(patch)] = patch
    path = tmp_path / "mutated.gguf"
    path.write_bytes(content)
    try:
        header = read_header(path)
    except BadGGUF:
        return
    entry = Entry("m", Profile("m"), files=(path,), header=header)
    estimate(header, shape_of(entry, 256))
    msgspec.json.encode(card_of(entry))


PATCHES = [
    bytes(8),
    b"\xff" * 8,
    struct.pack("<Q", 2**33),
    struct.pack("<I", 2**31),
    struct.pack("<f", math.nan),
    struct.pack("<f", math.inf),
    *(struct.pack("<I", kind) for kind in range(14)),
]
"""Values at which readers break: nothing, everything, huge counts, no numbers, every type of a value."""
