"""Command lines, exit codes and output of the processes that the neuron starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cortex.neuron.workers.spawn import LogTail, exit_reason, python_command


def test_a_module_is_run_without_the_current_directory_on_its_path(tmp_path: Path) -> None:
    """A file there must not shadow a library."""
    (tmp_path / "msgspec.py").write_text("raise SystemExit(3)")
    command = python_command("cortex.errors")
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert subprocess.run([sys.executable, "-m", "msgspec"], cwd=tmp_path, check=False).returncode == 3


def test_exit_codes_are_named() -> None:
    assert exit_reason(7) == "exit code 7"
    assert exit_reason(-9) == "signal SIGKILL"


def test_output_becomes_lines_wherever_it_is_cut() -> None:
    tail = LogTail(keep=2)
    assert tail.feed(b"one\ntw") == ["one"]
    assert tail.lines == ["one", "tw"]
    assert tail.feed(b"o\r\n\nthree\n") == ["two", "", "three"]
    assert tail.lines == ["two", "three"]


def test_a_line_without_an_end_is_bounded() -> None:
    tail = LogTail()
    assert [len(line) for line in tail.feed(b"x" * 70_000)] == [70_000]
    assert tail.feed(b"y\n") == ["y"]
