"""contrib/find_python.sh: CI's choice of a newer Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "contrib" / "find_python.sh"


def find(path: Path, pyenv: Path) -> subprocess.CompletedProcess[str]:
    """`path` is searched first; what the script itself needs is in the system's directories."""
    environment = {"PATH": f"{path}:/usr/bin:/bin", "PYENV_ROOT": str(pyenv), "HOME": str(pyenv)}
    return subprocess.run([SCRIPT, "9.9"], env=environment, capture_output=True, text=True, check=False, timeout=60)


def fake(path: Path, version: str) -> Path:
    """A program that answers as a Python of `version` that can make environments would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncase $2 in *\"'{version}'\"*) exit 0 ;; *) exit 1 ;; esac\n")
    path.chmod(0o755)
    return path


def test_one_on_the_path_is_taken(tmp_path: Path) -> None:
    python = fake(tmp_path / "bin" / "python9.9", "9.9")
    assert find(tmp_path / "bin", tmp_path / "pyenv").stdout.strip() == str(python)


def test_one_of_pyenvs_is_taken_where_the_path_has_none_that_works(tmp_path: Path) -> None:
    fake(tmp_path / "bin" / "python9.9", "no version")
    fake(tmp_path / "pyenv" / "versions" / "9.9.9" / "bin" / "python", "9.9")
    newest = fake(tmp_path / "pyenv" / "versions" / "9.9.10" / "bin" / "python", "9.9")
    assert find(tmp_path / "bin", tmp_path / "pyenv").stdout.strip() == str(newest)


def test_none_is_exit_1(tmp_path: Path) -> None:
    found = find(tmp_path, tmp_path)
    assert (found.returncode, found.stdout) == (1, "")
