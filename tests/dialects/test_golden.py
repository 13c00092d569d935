"""The bytes of every script in every dialect, streamed and not, are what the golden files hold."""

from __future__ import annotations

import pytest

from tests.dialects.adapters import cases
from tests.dialects.harness import GOLDEN, Dialect, assert_golden, collect, stream
from tests.dialects.scripts import Script

ALL = [pytest.param(dialect, script, id=f"{dialect.name}-{script.name}") for dialect, script in cases()]


@pytest.mark.parametrize(("dialect", "script"), ALL)
def test_streamed_bytes_are_golden(dialect: Dialect, script: Script) -> None:
    assert_golden(dialect.name, script.name, "sse", stream(dialect, script))


@pytest.mark.parametrize(("dialect", "script"), ALL)
def test_collected_bytes_are_golden(dialect: Dialect, script: Script) -> None:
    assert_golden(dialect.name, script.name, "json", collect(dialect, script))


def test_no_golden_file_is_left_behind_by_a_removed_script() -> None:
    expected = {f"{dialect.name}/{script.name}.{kind}" for dialect, script in cases() for kind in ("sse", "json")}
    assert {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*.*")} == expected
