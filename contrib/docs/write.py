#!/usr/bin/env python3
"""Writes the generated pages of docs/reference and prints the names of those that changed (`make docs`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cli_page
import config_page
import documents_page
import http_page
import metrics_page

__all__ = ["PAGES", "main"]

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page.document,
    "config.md": config_page.document,
    "documents.md": documents_page.document,
    "http.md": http_page.document,
    "metrics.md": metrics_page.document,
    "model-profiles.md": config_page.profile_document,
}


def main() -> None:
    for name, document in PAGES.items():
        path = REFERENCE / name
        text = document()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path)


if __name__ == "__main__":
    main()
