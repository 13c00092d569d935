"""Sizes and worker orders from catalogue entries."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from cortex.config.profiles import Profile, Profiles
from cortex.config.settings import Config
from cortex.neuron.catalog.entry import Catalog
from cortex.neuron.catalog.scan import HeaderCache, scan
from cortex.neuron.models.load_plan import estimated_sizes, spec_of
from tests.neuron.gguf_files import write_gguf, write_projector


def found(directory: Path, *profiles: Profile) -> Catalog:
    return scan([directory], None, Profiles(models=list(profiles)), HeaderCache())


def test_a_projector_counts_towards_what_its_model_takes(tmp_path: Path) -> None:
    write_gguf(tmp_path / "blind" / "m.gguf")
    write_gguf(tmp_path / "seeing" / "m.gguf")
    write_projector(tmp_path / "seeing" / "mmproj.gguf")
    blind, seeing = (found(tmp_path / name).entries["m"] for name in ("blind", "seeing"))
    for group in (["cpu:0"], ["gpu:0", "gpu:1"]):
        without, with_eye = estimated_sizes(blind, 1024, group), estimated_sizes(seeing, 1024, group)
        assert with_eye[0] - without[0] >= 48 * 1024
        assert with_eye[1:] == without[1:]


@pytest.mark.parametrize(
    ("profile", "in_file", "expected"),
    [
        (Profile("m", embedding=True), {}, "mean"),
        (Profile("m", embedding=True), {"pooling_type": 0}, "mean"),
        (Profile("m", embedding=True), {"pooling_type": 3}, None),
        (Profile("m", embedding=True, pooling="last"), {}, "last"),
        (Profile("m"), {}, None),
        (Profile("m"), {"pooling_type": 2}, None),
    ],
)
def test_a_model_asked_for_vectors_always_has_a_pooling(
    tmp_path: Path, profile: Profile, in_file: dict[str, int], expected: str | None
) -> None:
    """Without one llama.cpp gives no vector for a whole input; a text model's file names none."""
    write_gguf(tmp_path / "m.gguf", extra=in_file)
    entry = found(tmp_path, replace(profile, file=str(tmp_path / "m.gguf"))).entries["m"]
    assert spec_of(entry, 512, [], Config()).pooling == expected
