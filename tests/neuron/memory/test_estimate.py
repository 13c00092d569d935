"""Sizes from headers: the rules, and how near they come to what llama.cpp really allocates."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortex.neuron.catalog.gguf_header import read_header
from cortex.neuron.memory.estimate import Shape, estimate
from tests.models import gemma, smollm2
from tests.neuron.gguf_files import write_gguf
from tests.neuron.memory.measuring import loaded_bytes
from tests.neuron.synthetic import MODELS, write_synthetic
from tests.scripted import build_scripted


def test_cache_grows_with_cells_and_halves_with_eight_bit_types(tmp_path: Path) -> None:
    header = read_header(write_gguf(tmp_path / "m.gguf"))
    small, large = (estimate(header, Shape(cells, 1)).layer_cache for cells in (256, 512))
    assert large == [2 * size for size in small]
    wide = read_header(smollm2())
    whole = sum(estimate(wide, Shape(1024, 1)).layer_cache)
    eight = sum(estimate(wide, Shape(1024, 1, cache_type_k="q8_0", cache_type_v="q8_0")).layer_cache)
    assert eight == whole * 34 // 64


def test_weights_are_counted_once_and_whole(tmp_path: Path) -> None:
    header = read_header(write_gguf(tmp_path / "m.gguf"))
    sizes = estimate(header, Shape(256, 1))
    counted = sum(sizes.layer_weights) + sizes.input_bytes + sizes.output_bytes
    assert counted == sum(tensor.bytes for tensor in header.tensors)


def test_a_split_gives_every_layer_to_exactly_one_device(tmp_path: Path) -> None:
    header = read_header(write_gguf(tmp_path / "m.gguf", layers=7))
    sizes = estimate(header, Shape(256, 1))
    for shares in ([1.0, 1.0], [3.0, 1.0], [1.0, 1.0, 1.0]):
        held = sizes.split(shares)
        assert sum(held) == sizes.offloaded + (len(shares) - 1) * sizes.compute_bytes


def test_recurrent_state_is_per_sequence_and_not_per_token(tmp_path: Path) -> None:
    ssm = {"ssm.inner_size": 64, "ssm.state_size": 16, "ssm.conv_kernel": 4, "ssm.group_count": 1}
    header = read_header(write_gguf(tmp_path / "m.gguf", recurrent=True, extra=ssm))
    one, more_tokens, more_sequences = (
        sum(estimate(header, Shape(cells, parallel)).layer_cache) for cells, parallel in ((256, 1), (4096, 1), (256, 2))
    )
    assert one == more_tokens < more_sequences


@pytest.mark.model
@pytest.mark.parametrize(("context", "parallel"), [(1024, 1), (8192, 4)])
@pytest.mark.parametrize("name", ["smollm2", "gemma", "scripted"])
def test_the_estimate_is_within_a_tenth_of_what_llama_cpp_allocates(
    name: str, context: int, parallel: int, tmp_path: Path
) -> None:
    path = {"smollm2": smollm2, "gemma": gemma, "scripted": lambda: _scripted(tmp_path)}[name]()
    estimated = estimate(read_header(path), Shape(context * parallel, parallel)).total
    measured = loaded_bytes(path, context, parallel)
    assert estimated == pytest.approx(measured, rel=0.1), f"{estimated} estimated, {measured} measured"


@pytest.mark.model
@pytest.mark.parametrize("name", ["llama, grouped heads", "gemma2, sliding window", "qwen3moe"])
def test_the_estimate_holds_for_models_that_nothing_was_fitted_to(name: str, tmp_path: Path) -> None:
    """Other architectures and sizes, three of those in docs/explanation/memory.md, each at one context."""
    path = write_synthetic(tmp_path / "m.gguf", MODELS[name])
    estimated, measured = estimate(read_header(path), Shape(2048, 2)).total, loaded_bytes(path, 1024, 2)
    assert estimated == pytest.approx(measured, rel=0.1), f"{estimated} estimated, {measured} measured"


def _scripted(directory: Path) -> Path:
    path = directory / "scripted.gguf"
    build_scripted(path, {"<|go|>": ["Hello", " world"]}, template="{{ messages[0].content }}<|go|>")
    return path
