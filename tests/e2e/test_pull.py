"""The shipped program against a hub on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.neuron.catalog.fake_hub import FakeHub, fake_hub
from tests.neuron.gguf_files import write_gguf


def cortex(hub: FakeHub, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "cortex", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_model_is_pulled_listed_shown_and_removed(tmp_path: Path) -> None:
    with fake_hub() as hub:
        hub.files["m-Q4_K_M.gguf"] = write_gguf(tmp_path / "m.gguf").read_bytes()
        pulled = cortex(hub, tmp_path, "pull", "org/repo:Q4_K_M")
        assert pulled.returncode == 0, pulled.stderr
        assert Path(pulled.stdout.strip()).read_bytes() == hub.files["m-Q4_K_M.gguf"]
        assert '"org/repo"' in cortex(hub, tmp_path, "models", "list", "--json").stdout
        assert '"architecture": "llama"' in cortex(hub, tmp_path, "models", "show", "org/repo", "--json").stdout
        assert cortex(hub, tmp_path, "models", "rm", "--yes", "org/repo").returncode == 0
        assert not Path(pulled.stdout.strip()).exists()
        missing = cortex(hub, tmp_path, "pull", "org/none")
        assert missing.returncode == 4
        assert "no repository org/none" in missing.stderr
