"""The commands of docs/start and docs/how-to do what their pages say, in the order of the page."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, blocks_of
from tests.docs.site import UP, Site
from tests.models import smollm2

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]

COMMANDS = {page: [block for block in blocks_of(page) if block.kind not in {"", "not run"}] for page in PAGES}
RUNNING = [page for page, blocks in COMMANDS.items() if any(block.kind == "run" for block in blocks)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`cortex up`, for the pages that start nothing else."""
    site = Site(tmp_path_factory.mktemp("shared"))
    site.do(UP)
    yield site
    site.stop()


@pytest.mark.parametrize("page", RUNNING, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_a_pages_commands_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    blocks = COMMANDS[page]
    starts = any(block.kind == "serve" and block.text != UP.text for block in blocks)
    site = Site(tmp_path, None if starts else request.getfixturevalue("shared"))
    models = tmp_path / "srv" / "models"
    models.mkdir(parents=True)
    (models / "SmolLM2-135M-Instruct.gguf").symlink_to(smollm2())
    try:
        for block in blocks:
            site.do(block)
    finally:
        site.stop()


def test_the_demo_answers_and_stops(tmp_path: Path) -> None:
    """The last step of `make demo`."""
    environment = Site(tmp_path).environment()
    done = subprocess.run(
        [sys.executable, ROOT / "contrib" / "demo.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "> Write one sentence about the sea." in done.stdout
    assert " tok/s" in done.stdout
