"""The design note beside the code speaks of things that exist."""

from __future__ import annotations

import re
from pathlib import Path

import cortex

SOURCE = Path(cortex.__file__).parent
README = (SOURCE / "serving" / "README.md").read_text()
CODE = "\n".join(path.read_text() for part in ("serving", "dialects", "wire") for path in (SOURCE / part).rglob("*.py"))
FIELDS = "\n".join(path.read_text() for path in (SOURCE / "config").glob("*.py"))


def test_every_name_in_the_note_is_in_the_code() -> None:
    for quoted in re.findall(r"`([A-Za-z_.]+)`", README):
        for name in quoted.split("."):
            assert re.search(rf"\b{name}\b", CODE + FIELDS), quoted


def test_the_note_is_short() -> None:
    assert len(README.splitlines()) < 80
