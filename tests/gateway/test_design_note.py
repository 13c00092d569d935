"""The design note names what exists."""

from __future__ import annotations

import re
from pathlib import Path

import cortex.gateway

PACKAGE = Path(cortex.gateway.__file__).parent


def test_every_name_in_the_design_note_is_in_the_code() -> None:
    note = (PACKAGE / "README.md").read_text()
    assert len(note.splitlines()) <= 80
    sources = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "placement").glob("*.py"), PACKAGE.parent / "wire/status.py"]
    code = "\n".join(path.read_text() for path in sources)
    quoted = re.findall(r"`([A-Za-z_][\w.]*)`", note)
    names = {part for name in quoted for part in name.split(".")}
    assert names
    assert not {name for name in names if not re.search(rf"\b{re.escape(name)}\b", code)}
