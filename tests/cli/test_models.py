"""`cortex models` on a machine with one GGUF file of its own."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from cortex.cli.app import app
from cortex.cli.up_config import DEMO_MODEL
from cortex.config.profiles import Profile
from cortex.neuron.catalog.entry import Entry
from cortex.neuron.catalog.removal import removal_of
from tests.cli.program import run
from tests.neuron.gguf_files import write_gguf


def test_the_list_has_what_up_would_serve(config: Path) -> None:
    """`cortex up` served the demo model, which was missing here."""
    names = [line.split()[0] for line in run("models", "list", "-c", config).stdout.splitlines()]
    assert names == ["model", DEMO_MODEL, "talker"]
    cards = json.loads(run("models", "list", "-c", config, "--json").stdout)
    assert [card["id"] for card in cards] == [DEMO_MODEL, "talker"]


def test_one_model_is_shown_as_a_table_or_as_json(config: Path) -> None:
    assert "architecture  llama" in run("models", "show", "talker", "-c", config).stdout
    assert json.loads(run("models", "show", "talker", "-c", config, "--json").stdout)["id"] == "talker"
    unknown = run("models", "show", "nothing", "-c", config)
    assert unknown.exit_code == 4
    assert "cortex models list" in unknown.stderr


def test_a_probe_of_another_file_is_one_line_and_exits_6(config: Path) -> None:
    refused = run("models", "probe", config)
    assert refused.exit_code == 6
    assert refused.stderr.count("\n") == 1


def own_config(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    models.mkdir(exist_ok=True)
    path = tmp_path / "cortex.toml"
    path.write_text(f'[neuron]\nmodel_dirs = ["{models}"]\nhuggingface_cache = false\noffline = true\n')
    return path


def test_a_model_is_deleted_with_its_shards_after_they_were_named(tmp_path: Path) -> None:
    config = own_config(tmp_path)
    shards = [write_gguf(tmp_path / "models" / f"big-0000{part}-of-00002.gguf") for part in (1, 2)]
    asked = CliRunner().invoke(app, ["models", "rm", "big", "-c", str(config)], input="n\n", env={"COLUMNS": "200"})
    assert all(str(path) in asked.stdout for path in shards)
    assert all(path.exists() for path in shards)
    assert "freed" in run("models", "rm", "big", "-y", "-c", config).stdout
    assert not any(path.exists() for path in shards)


def test_of_a_link_only_the_link_is_deleted(tmp_path: Path) -> None:
    config = own_config(tmp_path)
    target = write_gguf(tmp_path / "elsewhere" / "m.gguf")
    link = tmp_path / "models" / "m.gguf"
    link.symlink_to(target)
    said = run("models", "rm", "m", "-y", "-c", config).stdout
    assert str(target) in said.split("stays:")[1]
    assert target.exists()
    assert not link.is_symlink()


def test_a_file_behind_a_linked_folder_is_not_deleted(tmp_path: Path) -> None:
    config = own_config(tmp_path)
    target = write_gguf(tmp_path / "elsewhere" / "m.gguf")
    (tmp_path / "models" / "more").symlink_to(target.parent)
    refused = run("models", "rm", "m", "-y", "-c", config)
    assert refused.exit_code != 0
    assert "outside the model directories" in refused.stderr
    assert target.exists()


def test_of_the_hub_cache_the_blob_goes_with_every_link_to_it_and_nothing_else(tmp_path: Path) -> None:
    repo = tmp_path / "models--org--repo"
    blob, other = (write_gguf(repo / "blobs" / name) for name in ("one", "two"))
    links = [repo / "snapshots" / commit / "m.gguf" for commit in ("a", "b")]
    for link in links:
        link.parent.mkdir(parents=True)
        link.symlink_to("../../blobs/one")
    removal = removal_of(Entry("m", Profile("m"), files=(links[0],)), [])
    removal.carry_out()
    assert removal.bytes > 0
    assert not blob.exists()
    assert not any(link.is_symlink() for link in links)
    assert other.exists()


def test_a_link_in_the_hub_cache_to_somewhere_else_is_only_a_link(tmp_path: Path) -> None:
    target = write_gguf(tmp_path / "models--org--other" / "blobs" / "one")
    link = tmp_path / "models--org--repo" / "snapshots" / "a" / "m.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    removal = removal_of(Entry("m", Profile("m"), files=(link,)), [])
    assert (removal.paths, removal.kept) == ((link,), (target,))
