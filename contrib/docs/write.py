#!/usr/bin/env python3
"""Writes the generated pages of docs/reference (`make docs`). With `--check`, only names the pages that differ."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cli_page
import config_page
import http_page
import metrics_page

__all__ = ["PAGES", "main"]

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page.document,
    "config.md": config_page.document,
    "http.md": http_page.document,
    "metrics.md": metrics_page.document,
    "model-profiles.md": config_page.profile_document,
}


def main() -> int:
    """1 when a page differed (with `--check`), else 0."""
    differing = [name for name, document in PAGES.items() if _read(name) != document()]
    for name in differing:
        print(f"docs/reference/{name}")
        if "--check" not in sys.argv:
            (REFERENCE / name).write_text(PAGES[name]())
    return int("--check" in sys.argv and bool(differing))


def _read(name: str) -> str:
    path = REFERENCE / name
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
