"""Every command on the pages of docs/start and docs/how-to is executed by a test, or says why not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from cortex.config.loading import load_config
from cortex.config.profiles import load_profiles
from tests.docs.blocks import PAGES, ROOT, RUNNABLE, Block, blocks_of, expected

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
TOML = [block for block in BLOCKS if block.language == "toml"]
PLAIN = {"text", "toml"}


def test_there_are_pages_with_commands() -> None:
    assert {page.parent.name for page in PAGES} == {"start", "how-to"}
    assert [block for block in BLOCKS if block.kind == "run"]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_has_a_known_language_and_a_mark_that_suits_it(block: Block) -> None:
    assert block.language in RUNNABLE | PLAIN, f"{block}: language {block.language!r}"
    if block.language in RUNNABLE:
        assert block.kind in {"run", "serve", "not run"}, f"{block}: mark it as `run`, `serve` or `not run`"
    if block.kind in {"serve", "file", "not run"}:
        assert block.argument, f"{block}: `{block.kind}` says nothing"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_an_expected_output_follows_a_command(page: Path) -> None:
    before = ""
    for block in blocks_of(page):
        if block.kind == "output":
            assert before in {"run", "serve"}, f"{block}: nothing has run before it"
            assert expected(block)
        else:
            before = block.kind


@pytest.mark.parametrize("block", TOML, ids=str)
def test_a_configuration_is_valid(block: Block, tmp_path: Path) -> None:
    """cortex.toml and its like are read by the same code as a user's; other tools' files only have to be TOML."""
    document = tomllib.loads(block.text)
    path = tmp_path / "file.toml"
    path.write_text(block.text)
    if isinstance(document.get("models"), list):
        load_profiles(path)
    elif not (block.kind == "not run" and "another program" in block.argument):
        load_config(path, {})


def test_the_readmes_commands_are_those_of_the_pages() -> None:
    """README.md repeats a few commands; they are executed where they come from."""
    known = _commands([block for block in BLOCKS if block.language in RUNNABLE])
    assert _commands(list(blocks_of(ROOT / "README.md"))) <= known | {"make demo", "make test"}


def _commands(blocks: list[Block]) -> set[str]:
    """Lines without their comments, continuation lines joined."""
    text = "\n".join(block.text.replace("\\\n", " ") for block in blocks if block.language in RUNNABLE)
    lines = (re.sub(r"\s+#.*", "", line) for line in text.splitlines())
    return {" ".join(line.split()) for line in lines if line.strip()}


def test_a_block_without_a_mark_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- run -->\n\n```sh\ntrue\n```\n\n<!-- not run: why -->\n```sh\nfalse\n```\n")
    first, second = blocks_of(page)
    assert (first.kind, second.kind, second.argument) == ("", "not run", "why")
    assert (first.line, first.language, first.text) == (3, "sh", "true\n")


def test_expected_output_matches_with_ellipses(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('<!-- output -->\n```text\n{"id":"…"content":"…\nname   state\n```\n')
    (block,) = blocks_of(page)
    printed = '{"id":"x","content":"Hi"}\nname      state   more'
    assert all(pattern.search(printed) for pattern in expected(block))
    assert not all(pattern.search('{"id":"x"}') for pattern in expected(block))
