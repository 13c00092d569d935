"""The fenced blocks of a page and their marks.

A mark is an HTML comment on the line before the fence:

- `<!-- run -->`: executed, in the page's order.
- `<!-- serve: TEXT -->`: started in the background; the page goes on once TEXT has been printed.
- `<!-- file: NAME -->`: written to NAME before the following blocks run.
- `<!-- output -->`: each line occurs in what the block before it printed; `…` stands for anything.
- `<!-- not run: REASON -->`: not executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCS", "PAGES", "ROOT", "RUNNABLE", "Block", "blocks_of", "expected"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*(DOCS / "start").glob("*.md"), *(DOCS / "how-to").glob("*.md")])
"""The pages whose commands are executed or marked."""

RUNNABLE = {"sh", "console", "bash", "shell", "python"}
"""Languages of blocks that must be executed, or marked with the reason why not."""

_MARK = re.compile(r"<!-- (?P<kind>run|serve|file|output|not run)(?:: (?P<argument>.+))? -->")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `line` is the fence's line number, `kind` "" where there is no mark."""

    page: Path
    line: int
    language: str
    kind: str
    argument: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """In the page's order. Raises ValueError for a fence that is never closed."""
    before, lines = "", enumerate(page.read_text().splitlines(), 1)
    for number, line in lines:
        if line.lstrip().startswith("```"):
            mark = _MARK.fullmatch(before)
            inside = []
            for _, content in lines:
                if content.strip() == "```":
                    break
                inside.append(content)
            else:
                raise ValueError(f"{page}:{number}: the block isn't closed")
            kind, argument = (mark["kind"], mark["argument"] or "") if mark else ("", "")
            yield Block(page, number, line.strip().strip("`"), kind, argument, "\n".join(inside) + "\n")
        before = line.strip()


def expected(block: Block) -> list[re.Pattern[str]]:
    """A pattern for each line of an `output` block; runs of blanks match any number of blanks."""
    return [_pattern(line) for line in block.text.splitlines() if line.strip()]


def _pattern(line: str) -> re.Pattern[str]:
    words = [r"\s+".join(map(re.escape, part.split())) for part in line.split("…")]
    return re.compile(".*".join(words))
