"""`cortex models`, `cortex pull` and `cortex up` as commands, on a machine with one GGUF of its own."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cortex.cli.app import app
from cortex.cli.up_config import DEMO_MODEL
from cortex.errors import ConfigError
from tests.e2e.models import build_talker


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Offline, with `talker` in the only model directory."""
    directory = tmp_path_factory.mktemp("models")
    build_talker(directory / "talker.gguf")
    path = directory / "cortex.toml"
    path.write_text(f'[neuron]\nmodel_dirs = ["{directory}"]\nhuggingface_cache = false\noffline = true\n')
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})


def test_the_list_has_what_up_would_serve(config: Path) -> None:
    """The demo model was served by `cortex up` and missing here."""
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


def test_a_probe_of_no_gguf_is_one_line_and_exits_6(config: Path) -> None:
    refused = run("models", "probe", config)
    assert refused.exit_code == 6
    assert refused.stderr.count("\n") == 1


def test_a_pull_that_fails_draws_nothing_into_a_pipe(config: Path) -> None:
    refused = run("pull", "org/repo", "-c", config)
    assert refused.exit_code == 3
    assert refused.stderr == "cortex: org/repo is not on this machine and neuron.offline is set\n"


def test_up_refuses_a_port_in_use_before_it_starts_anything() -> None:
    """Who listened there answered for our gateway, and `cortex is up` was printed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run("up", "--listen", f"127.0.0.1:{port}")
    assert isinstance(refused.exception, ConfigError)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; is cortex running" in str(refused.exception)


def test_up_beyond_this_machine_without_keys_is_refused_at_once() -> None:
    refused = run("up", "--listen", "0.0.0.0:0")
    assert isinstance(refused.exception, ConfigError)
    assert "gateway.insecure = true" in str(refused.exception)


def test_version_is_an_option_too() -> None:
    assert run("--version").stdout.startswith("cortex ")
