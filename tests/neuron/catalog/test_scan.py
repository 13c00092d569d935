"""What the disk holds, under which names."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortex.config.profiles import Profile, Profiles
from cortex.neuron.catalog.entry import Catalog
from cortex.neuron.catalog.scan import HeaderCache, scan
from cortex.neuron.models.card import card_of
from tests.neuron.gguf_files import write_gguf, write_projector


def found(directory: Path, *profiles: Profile, hub: Path | None = None) -> Catalog:
    return scan([directory], hub, Profiles(models=list(profiles)), HeaderCache())


def test_a_file_is_a_model_named_by_its_stem(tmp_path: Path) -> None:
    write_gguf(tmp_path / "deep" / "tiny.gguf")
    entry = found(tmp_path).entries["tiny"]
    assert entry.header is not None
    assert card_of(entry).quantisation == "F32"


def test_shards_are_one_model_whichever_is_named(tmp_path: Path) -> None:
    for part in (1, 2):
        write_gguf(tmp_path / f"big-0000{part}-of-00002.gguf")
    catalog = found(tmp_path, Profile("by-second", file="big-00002-of-00002.gguf"))
    assert list(catalog.entries) == ["by-second"]
    assert [path.name[4:9] for path in catalog.entries["by-second"].files] == ["00001", "00002"]
    assert list(found(tmp_path).entries) == ["big"]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_gguf(tmp_path / "big-00002-of-00003.gguf")
    problem = found(tmp_path).entries["big"].problem
    assert "big-00001-of-00003.gguf" in problem
    assert "big-00003-of-00003.gguf" in problem
    assert not card_of(found(tmp_path).entries["big"]).available


def test_a_broken_file_is_listed_with_its_problem_and_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(10))
    write_gguf(tmp_path / "good.gguf")
    catalog = found(tmp_path)
    assert catalog.entries["broken"].problem
    assert not catalog.entries["good"].problem


def test_a_profile_takes_over_its_file_with_its_aliases(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    catalog = found(tmp_path, Profile("nice-name", file="tiny.gguf", aliases=["default"], context=128))
    assert list(catalog.entries) == ["nice-name"]
    assert catalog.resolve("default") == "nice-name"
    assert card_of(catalog.entries["nice-name"]).limits.context == 128


def test_the_hub_cache_names_models_by_repository_and_quantisation(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--repo" / "snapshots" / "abc"
    write_gguf(snapshot / "m-F32.gguf")
    alone = found(tmp_path / "none", hub=tmp_path)
    assert list(alone.entries) == ["org/repo"]
    assert alone.resolve("org/repo:F32") == "org/repo"
    write_gguf(snapshot / "m-Q8_0.gguf", file_type=7)
    both = found(tmp_path / "none", hub=tmp_path)
    assert sorted(both.entries) == ["org/repo:F32", "org/repo:Q8_0"]


def test_a_profile_finds_its_quantisation_in_the_hub_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--repo" / "snapshots" / "abc"
    write_gguf(snapshot / "m-F32.gguf")
    write_gguf(snapshot / "m-Q8_0.gguf", file_type=7)
    profile = Profile("m", source="huggingface", repo="org/repo", quant="Q8_0")
    path = found(tmp_path / "none", profile, hub=tmp_path).entries["m"].path
    assert path is not None
    assert path.name == "m-Q8_0.gguf"


@pytest.mark.parametrize("name", ["mmproj-see.gguf", "see-mmproj-f16.gguf", "mmproj.gguf"])
def test_a_projector_belongs_to_its_model(tmp_path: Path, name: str) -> None:
    write_gguf(tmp_path / "see.gguf")
    write_projector(tmp_path / name)
    catalog = found(tmp_path)
    assert list(catalog.entries) == ["see"]
    assert card_of(catalog.entries["see"]).capabilities.vision


def test_a_projector_for_sound_is_left_alone(tmp_path: Path) -> None:
    write_gguf(tmp_path / "hear.gguf")
    write_projector(tmp_path / "mmproj-hear.gguf", sees=False)
    entry = found(tmp_path).entries["hear"]
    assert (entry.mmproj, entry.problem) == (None, "")


@pytest.mark.parametrize("beside", [True, False])
def test_a_profile_chooses_the_projector(tmp_path: Path, beside: bool) -> None:
    """By its name beside the model, or by a path."""
    write_gguf(tmp_path / "models" / "m.gguf")
    write_projector(tmp_path / "models" / "mmproj-a.gguf")
    chosen = write_projector((tmp_path / "models" if beside else tmp_path) / "mmproj-b.gguf")
    profile = Profile("m", mmproj=chosen.name if beside else str(chosen))
    assert found(tmp_path / "models", profile).entries["m"].mmproj == chosen


def test_a_profile_can_do_without_the_projector(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    write_projector(tmp_path / "mmproj-m.gguf")
    entry = found(tmp_path, Profile("m", mmproj="none")).entries["m"]
    assert (entry.mmproj, entry.projector, entry.problem) == (None, None, "")


@pytest.mark.parametrize("damage", ["missing", "broken", "for sound"])
def test_a_chosen_projector_that_cannot_be_used_is_a_problem(tmp_path: Path, damage: str) -> None:
    write_gguf(tmp_path / "m.gguf")
    path = tmp_path / "eye.gguf"
    if damage == "broken":
        path.write_bytes(b"GGUF")
    elif damage == "for sound":
        write_projector(path, sees=False)
    assert "eye.gguf" in found(tmp_path, Profile("m", mmproj="eye.gguf")).entries["m"].problem


def test_same_stems_in_two_places_get_two_names(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a" / "m.gguf")
    write_gguf(tmp_path / "b" / "m.gguf")
    assert sorted(found(tmp_path).entries) == ["b/m", "m"]
