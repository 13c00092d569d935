"""The table of files in docs/explanation/architecture.md leads to files that have what the table says."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.blocks import DOCS, ROOT

SOURCE = ROOT / "src" / "cortex"
PAGE = (DOCS / "explanation" / "architecture.md").read_text()
ROWS = re.findall(r"^\| (?P<question>.+\?) \| `(?P<file>[\w/]+\.py)` \| (?P<symbols>`.+`) \|$", PAGE, re.MULTILINE)


def test_the_questions_of_a_newcomer_are_there() -> None:
    questions = " ".join(question for question, _, _ in ROWS)
    assert len(ROWS) >= 14
    for wanted in ("evicted", "content_block_delta", "prompt tokens go into a step", "GGUF header"):
        assert wanted in questions


@pytest.mark.parametrize(("question", "file", "symbols"), ROWS, ids=[file for _, file, _ in ROWS])
def test_a_row_leads_to_its_symbols(question: str, file: str, symbols: str) -> None:
    path = SOURCE / file
    assert path.is_file(), f"{question} {file} doesn't exist: name the file that holds it now"
    missing = set(re.findall(r"`(\w+)`", symbols)) - defined(ast.parse(path.read_text()))
    assert not missing, f"{question} {file} defines no {', '.join(sorted(missing))}"


def test_every_file_and_package_on_the_page_exists() -> None:
    for name in re.findall(r"`((?:[\w]+/)*\w+\.py)`", PAGE):
        assert (SOURCE / name).is_file() or (ROOT / name).is_file(), name
    packages = re.search(r"## Packages\n(.*?)\n## ", PAGE, re.DOTALL)
    assert packages
    for row in re.findall(r"^\| (`.+?`) \|", packages[1], re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row):
            assert (SOURCE / name).is_dir(), name


def defined(tree: ast.Module) -> set[str]:
    """Names of the functions and classes of a module."""
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
