"""The page's messages are those of the code, and each has its cause and remedy."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import DOCS
from tests.docs.messages import is_said

PAGE = (DOCS / "how-to" / "troubleshooting.md").read_text()
SECTIONS = re.findall(r"^### `(?P<message>[^`\n]+)`\n\n(?P<text>.*?)(?=\n\n#|\Z)", PAGE, re.MULTILINE | re.DOTALL)


def test_every_section_is_a_message() -> None:
    assert len(SECTIONS) == PAGE.count("\n### ") > 40


@pytest.mark.parametrize(("message", "text"), SECTIONS, ids=[message for message, _ in SECTIONS])
def test_a_message_is_in_the_code_with_its_cause_and_remedy(message: str, text: str) -> None:
    assert is_said(message), f"no text in src/cortex reads {message!r}: it was changed or removed"
    assert "**Cause:**" in text
    assert "**Remedy:**" in text


def test_a_message_that_nobody_says_is_noticed() -> None:
    assert is_said("cannot listen on …: …")
    assert not is_said("cannot hear on …: …")
