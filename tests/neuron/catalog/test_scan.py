"""What the disk holds, under which names."""

from __future__ import annotations

import os
import struct
import tempfile
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortex.config.profiles import Profile, Profiles
from cortex.neuron.catalog import scan as scan_module
from cortex.neuron.catalog.entry import Catalog, Entry
from cortex.neuron.catalog.scan import HeaderCache, scan
from cortex.neuron.models.card import card_of
from tests.neuron.catalog.test_gguf_header import number, raw_header, text
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
    assert sorted(found(tmp_path).entries) == ["a/m", "b/m"]


def sparse(path: Path, content: bytes) -> Path:
    """A file of 128 GiB that says `content` and takes next to no disk."""
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(2**37)
    return path


def hostile_files(directory: Path) -> list[str]:
    """Files of every kind that has stopped a scan; their ids."""
    sparse(directory / "strings.gguf", raw_header(text("k") + struct.pack("<IIQ", 9, 8, 2**33), value_count=1))
    sparse(directory / "nested.gguf", raw_header(text("k") + struct.pack("<IIQ", 9, 9, 1), value_count=1))
    sparse(directory / "alignment.gguf", raw_header(number("general.alignment", "u32", 0), value_count=1))
    (directory / "..gguf").write_bytes(b"GGUF")
    (directory / ".gguf").write_bytes(b"GGUF")
    (directory / "many-00001-of-99999.gguf").write_bytes(b"GGUF")
    (directory / "none-00000-of-00000.gguf").write_bytes(b"GGUF")
    return ["strings", "nested", "alignment", "..gguf", ".gguf", "many", "none"]


def test_no_file_keeps_another_from_being_found(tmp_path: Path) -> None:
    write_gguf(tmp_path / "good.gguf")
    bad = hostile_files(tmp_path)
    (tmp_path / os.fsdecode(b"latin-\xe9.gguf")).write_bytes(b"GGUF")
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "ring.gguf").symlink_to("ring.gguf")
    (tmp_path / "nothing.gguf").symlink_to("gone")
    (tmp_path / "folder.gguf").mkdir()
    began = time.process_time()
    entries = found(tmp_path).entries
    assert time.process_time() - began < 3.0
    assert sorted(entries) == sorted([*bad, "good"])
    assert not entries["good"].problem
    assert all(0 < len(entries[name].problem) < 1000 for name in bad)
    msgspec.json.encode([card_of(entry) for entry in entries.values()])


def test_a_bug_in_the_reader_costs_the_file_that_found_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "good.gguf")
    write_gguf(tmp_path / "odd.gguf")
    whole = scan_module.read_header

    def read(path: Path) -> object:
        if path.name == "odd.gguf":
            raise IndexError("list index out of range")
        return whole(path)

    monkeypatch.setattr(scan_module, "read_header", read)
    entries = found(tmp_path).entries
    assert "can't be read" in entries["odd"].problem
    assert not entries["good"].problem


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(name=st.text(min_size=1, max_size=40), content=st.binary(max_size=60))
def test_a_file_of_any_name_and_content_is_an_entry_or_left_out(name: str, content: bytes, tmp_path: Path) -> None:
    directory = Path(tempfile.mkdtemp(dir=tmp_path))
    write_gguf(directory / "sub" / "good.gguf")
    try:
        (directory / f"{name}.gguf").write_bytes(b"GGUF" + content)
    except (OSError, ValueError):
        return  # no file can have that name
    entries = found(directory, Profile("by-profile", file=f"{name}.gguf")).entries
    assert not entries["good"].problem
    msgspec.json.encode([card_of(entry) for entry in entries.values()])


def cached(hub: Path, commit: str, *names: str, repo: str = "models--org--repo") -> Path:
    """Files of one snapshot, each with its context length telling the snapshots apart."""
    for name in names:
        write_gguf(hub / repo / "snapshots" / commit / name, context=int(commit))
    return hub / repo


def point_main(repo: Path, commit: str) -> None:
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "refs" / "main").write_text(commit)


def names_of(entry: Entry) -> set[str]:
    return {entry.id, *entry.aliases}


def contexts_of(catalog: Catalog) -> dict[str, int]:
    return {name: entry.header.hyper("context_length") for name, entry in catalog.entries.items() if entry.header}


@pytest.mark.parametrize(("old", "new"), [("100", "200"), ("200", "100")])
def test_the_hub_cache_serves_the_revision_that_main_points_to(tmp_path: Path, old: str, new: str) -> None:
    """Whatever the commits' order, and each file once; a file that an update left alone is still found."""
    cached(tmp_path, old, "m-Q4_K_M.gguf", "m-Q8_0.gguf")
    point_main(cached(tmp_path, new, "m-Q4_K_M.gguf"), new)
    assert contexts_of(found(tmp_path / "none", hub=tmp_path)) == {
        "org/repo:Q4_K_M": int(new),
        "org/repo:Q8_0": int(old),
    }


def test_a_profile_with_a_revision_gets_that_one(tmp_path: Path) -> None:
    cached(tmp_path, "100", "m-Q4_K_M.gguf")
    point_main(cached(tmp_path, "200", "m-Q4_K_M.gguf"), "200")
    profile = Profile("m", source="huggingface", repo="org/repo", revision="100")
    assert contexts_of(found(tmp_path / "none", profile, hub=tmp_path))["m"] == 100
    missing = Profile("m", source="huggingface", repo="org/repo", revision="300")
    assert found(tmp_path / "none", missing, hub=tmp_path).entries["m"].path is None


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["m-UD-Q4_K_M.gguf"], {"org/repo", "org/repo:UD-Q4_K_M", "org/repo:F32"}),
        (["m-iq2_xxs.gguf"], {"org/repo", "org/repo:IQ2_XXS", "org/repo:F32"}),
        (["BF16/m-00001-of-00001.gguf"], {"org/repo", "org/repo:BF16", "org/repo:F32"}),
        (["m.gguf"], {"org/repo", "org/repo:F32"}),
    ],
)
def test_a_tag_is_what_the_file_is_called(tmp_path: Path, files: list[str], names: set[str]) -> None:
    """`UD-Q4_K_M` is another file than `Q4_K_M`, although their headers say the same."""
    cached(tmp_path, "100", *files)
    (entry,) = found(tmp_path / "none", hub=tmp_path).entries.values()
    assert names_of(entry) == names


def test_the_bare_name_of_a_repository_stays_valid_when_another_file_arrives(tmp_path: Path) -> None:
    cached(tmp_path, "100", "m-Q4_K_M.gguf")
    assert found(tmp_path / "none", hub=tmp_path).resolve("org/repo") == "org/repo"
    cached(tmp_path, "100", "m-UD-Q4_K_M.gguf", "m-IQ1_S.gguf")
    catalog = found(tmp_path / "none", hub=tmp_path)
    assert catalog.resolve("org/repo") == catalog.resolve("org/repo:Q4_K_M") == "org/repo:Q4_K_M"
    assert sorted(catalog.entries) == ["org/repo:IQ1_S", "org/repo:Q4_K_M", "org/repo:UD-Q4_K_M"]


def test_files_of_one_quantisation_in_one_repository_have_names_of_their_own(tmp_path: Path) -> None:
    cached(tmp_path, "100", "a-Q8_0.gguf", "b-Q8_0.gguf", "c-Q4_0.gguf")
    assert sorted(found(tmp_path / "none", hub=tmp_path).entries) == [
        "org/repo:Q4_0",
        "org/repo:a-Q8_0",
        "org/repo:b-Q8_0",
    ]


def test_a_repository_without_an_organisation_is_found(tmp_path: Path) -> None:
    cached(tmp_path, "100", "gpt2-Q8_0.gguf", repo="models--gpt2")
    assert names_of(found(tmp_path / "none", hub=tmp_path).entries["gpt2"]) == {"gpt2", "gpt2:Q8_0", "gpt2:F32"}


def test_a_file_and_a_repository_of_one_name_are_both_served(tmp_path: Path) -> None:
    cached(tmp_path / "hub", "100", "gpt2-Q8_0.gguf", repo="models--gpt2")
    write_gguf(tmp_path / "models" / "gpt2.gguf")
    assert len(found(tmp_path / "models", hub=tmp_path / "hub").entries) == 2


def test_equal_file_names_get_the_shortest_path_that_tells_them_apart(tmp_path: Path) -> None:
    """Whichever was there first; and the path was a name before, so that it stays one."""
    for folder in ("x/a", "y/a", "z"):
        write_gguf(tmp_path / folder / "m.gguf")
    write_gguf(tmp_path / "z" / "other.gguf")
    assert sorted(found(tmp_path).entries) == ["other", "x/a/m", "y/a/m", "z/m"]
    for folder in ("y/a", "z"):
        (tmp_path / folder / "m.gguf").unlink()
    alone = found(tmp_path)
    assert sorted(alone.entries) == ["m", "other"]
    assert alone.resolve("x/a/m") == "m"


def test_equal_paths_below_two_directories_are_told_apart_by_the_directory(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_gguf(tmp_path / folder / "m.gguf")
    for order in (["one", "two"], ["two", "one"]):
        catalog = scan([tmp_path / name for name in order], None, Profiles(), HeaderCache())
        assert sorted(catalog.entries) == ["one/m", "two/m"]


def test_files_of_one_stem_in_one_folder_are_all_served(tmp_path: Path) -> None:
    for name in ("m.gguf", "m.GGUF", "m-00001-of-00001.gguf"):
        write_gguf(tmp_path / name)
    assert len(found(tmp_path).entries) == 3


def test_links_to_folders_are_followed_once_and_what_is_left_out_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_gguf(tmp_path / "disk" / "far.GGUF")
    models = tmp_path / "models"
    models.mkdir()
    (models / "disk").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(models)
    write_gguf(models / "m.gguf")
    (models / "again.gguf").symlink_to("m.gguf")
    headers = HeaderCache()
    for _ in range(2):
        catalog = scan([models], None, Profiles(), headers)
    assert sorted(catalog.entries) == ["far", "m"]
    (left_out,) = [record for record in caplog.records if record.message == "left out of the catalogue"]
    assert left_out.path == models / "again.gguf"


def test_a_file_that_a_profile_hides_or_an_alias_shadows_is_warned_of(tmp_path: Path) -> None:
    for name in ("m", "other", "third"):
        write_gguf(tmp_path / f"{name}.gguf")
    catalog = found(tmp_path, Profile("m", file="other.gguf", aliases=["third"]))
    hidden, shadowed = catalog.warnings
    assert str(tmp_path / "m.gguf") in hidden
    assert shadowed.startswith("third: an alias of m")


def test_a_profile_of_an_ambiguous_name_says_which_files_have_it(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_gguf(tmp_path / folder / "m.gguf")
    assert "a/m, b/m" in found(tmp_path, Profile("m")).entries["m"].problem
    assert not found(tmp_path, Profile("a/m", context=128)).entries["a/m"].problem
