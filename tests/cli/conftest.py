"""A machine with one GGUF file of its own, and the program run on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.models import build_talker


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Offline, with `talker` in the only model directory."""
    directory = tmp_path_factory.mktemp("models")
    build_talker(directory / "talker.gguf")
    path = directory / "cortex.toml"
    path.write_text(f'[neuron]\nmodel_dirs = ["{directory}"]\nhuggingface_cache = false\noffline = true\n')
    return path
