"""`cortex models` on a machine with one GGUF file of its own."""

from __future__ import annotations

import json
from pathlib import Path

from cortex.cli.up_config import DEMO_MODEL
from tests.cli.program import run


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
