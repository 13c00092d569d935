"""Worker processes shared by the tests of this directory: starting one and loading a model takes a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cortex.wire.worker import LoadSpec
from tests.engine.harness import WorkerProcess
from tests.models import smollm2
from tests.scripted import LOOP, build_scripted

EMOJI = "😀".encode()
SCRIPTS = {
    "<|go|>": ["Hello", ", ", "world", " ", EMOJI[:2], EMOJI[2:], "!"],
    "<|loop|>": ["tick ", "tock ", LOOP],
    "<|end|>": ["Wait", "END", "never seen"],
}
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}<|go|>"


@pytest.fixture(scope="session")
def scripted_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_scripted(tmp_path_factory.mktemp("gguf") / "scripted.gguf", SCRIPTS, template=TEMPLATE)


@pytest.fixture(scope="session")
def scripted(scripted_path: Path) -> Iterator[WorkerProcess]:
    """A worker with the scripted model as "m"."""
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(LoadSpec("m", str(scripted_path), context=1024, parallel=8))
        yield worker


@pytest.fixture(scope="session")
def smol_spec() -> LoadSpec:
    return LoadSpec("m", str(smollm2()), context=2048, parallel=8, prompt_lookup=False)


@pytest.fixture(scope="session")
def smol(smol_spec: LoadSpec) -> Iterator[WorkerProcess]:
    """A worker with SmolLM2 as "m"."""
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(smol_spec)
        yield worker
