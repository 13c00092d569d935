"""`cortex top` in a real terminal (tmux), driven by key presses and read from the screen."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.top.fake_gateway import FakeGateway, fake_gateway

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed (apt-get install tmux)"),
]


class Terminal:
    """One tmux session on a server of its own."""

    def __init__(self, command: str, width: int, height: int) -> None:
        self._socket = f"cortex-test-{uuid4().hex[:8]}"
        self._tmux("new-session", "-d", "-x", str(width), "-y", str(height), command)

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def wait_for(self, fact: Callable[[str], bool], within_s: float = 30) -> str:
        """The first screen for which `fact` holds; fails with the last one at the deadline."""
        deadline = time.monotonic() + within_s
        while not fact(screen := self.screen()):
            assert time.monotonic() < deadline, f"not seen on screen:\n{screen}"
        return screen

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], capture_output=True, check=False, timeout=20)


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as server:
        yield server


@pytest.fixture
def open_top(gateway: FakeGateway) -> Iterator[Callable[[int, int], Terminal]]:
    opened: list[Terminal] = []

    def open_at(width: int, height: int) -> Terminal:
        program = Path(sys.executable).parent / "cortex"
        opened.append(Terminal(f"{program} top --url {gateway.url} --interval 0.2", width, height))
        return opened[-1]

    yield open_at
    for terminal in opened:
        terminal.close()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 48)])
def test_the_fleet_is_drawn_at_this_size(open_top: Callable[[int, int], Terminal], width: int, height: int) -> None:
    screen = open_top(width, height).wait_for(lambda screen: "chatcmpl-9" in screen)
    assert "beast  healthy" in screen
    assert "loading 42%" in screen
    assert ("MEMORY" in screen) == (width == 160)


def test_unload_is_asked_once_and_sent_on_yes(open_top: Callable[[int, int], Terminal], gateway: FakeGateway) -> None:
    terminal = open_top(80, 24)
    terminal.wait_for(lambda screen: "Qwen3.6" in screen)
    terminal.press("Down", "Down", "Down", "Down", "u")
    terminal.wait_for(lambda screen: "unload Qwen/Qwen3.6-27B-GGUF?" in screen)
    assert gateway.orders == []
    terminal.press("y")
    terminal.wait_for(lambda screen: "done" in screen)
    assert gateway.orders == [("POST", "/fleet/models/Qwen/Qwen3.6-27B-GGUF/unload")]


def test_it_survives_a_gateway_restart(open_top: Callable[[int, int], Terminal], gateway: FakeGateway) -> None:
    """While the gateway answers nothing the last picture stays, marked; then it goes on by itself."""
    terminal = open_top(80, 24)
    terminal.wait_for(lambda screen: "beast" in screen)
    gateway.key = "changed"
    terminal.wait_for(lambda screen: "trying again" in screen and "beast" in screen)
    gateway.key = None
    terminal.wait_for(lambda screen: "trying again" not in screen and "beast" in screen)
