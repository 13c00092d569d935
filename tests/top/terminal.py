"""A real terminal for tests: tmux, driven by key presses and read from its screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

__all__ = ["Terminal", "needs_tmux", "open_top"]

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed (apt-get install tmux)")


class Terminal:
    """One tmux session on its own tmux server."""

    def __init__(self, command: str, width: int, height: int) -> None:
        self._socket = f"cortex-test-{uuid4().hex[:8]}"
        self._tmux("new-session", "-d", "-x", str(width), "-y", str(height), command)

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, "-f", "/dev/null", *arguments]
        # Passed explicitly: readline (which pytest imports) sets COLUMNS in the C environment, unseen by Python.
        environment = dict(os.environ)
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
        return done.stdout

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def wait_for(self, fact: Callable[[str], bool], within_s: float = 60) -> str:
        """The first screen for which `fact` holds; fails with the last one at the deadline."""
        deadline = time.monotonic() + within_s
        while not fact(screen := self.screen()):
            assert time.monotonic() < deadline, f"not seen on screen:\n{screen}"
        return screen

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], capture_output=True, check=False, timeout=60)


def open_top(url: str, width: int, height: int) -> Terminal:
    """`cortex top` on the server at `url`, polling five times a second."""
    program = Path(sys.executable).parent / "cortex"
    return Terminal(f"{program} top --url {url} --interval 0.2", width, height)
