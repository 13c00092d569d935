"""The page about clients lists what examples/ has."""

from __future__ import annotations

import re

from tests.docs.blocks import DOCS, ROOT

PAGE = (DOCS / "how-to" / "clients.md").read_text()
EXAMPLES = ROOT / "examples"


def test_every_client_of_the_examples_is_listed() -> None:
    listed = set(re.findall(r"`([\w-]+)/[^`]+`", PAGE))
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} <= listed


def test_every_file_listed_exists() -> None:
    files = re.findall(r"`([\w-]+/[\w.*-]+)`", PAGE)
    assert files
    for name in files:
        assert list(EXAMPLES.glob(name)), name
