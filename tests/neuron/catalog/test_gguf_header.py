"""Headers: right for good files, a clear word for bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortex.neuron.catalog.gguf_header import BadGGUF, read_header
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
