"""`cortex top` in a real terminal (tmux), driven by key presses and read from the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.top import terminal
from tests.top.fake_gateway import FakeGateway, fake_gateway
from tests.top.terminal import Terminal, needs_tmux

pytestmark = [pytest.mark.e2e, needs_tmux]


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as server:
        yield server


@pytest.fixture
def open_top(gateway: FakeGateway) -> Iterator[Callable[[int, int], Terminal]]:
    opened: list[Terminal] = []

    def open_at(width: int, height: int) -> Terminal:
        opened.append(terminal.open_top(gateway.url, width, height))
        return opened[-1]

    yield open_at
    for each in opened:
        each.close()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 48)])
def test_the_fleet_is_drawn_at_this_size(open_top: Callable[[int, int], Terminal], width: int, height: int) -> None:
    """The wide one has more columns; tmux may resize only after the first frame."""
    wide = width == 160
    screen = open_top(width, height).wait_for(lambda screen: "chatcmpl-9" in screen and ("MEMORY" in screen) == wide)
    assert "beast  healthy" in screen
    assert "loading 42%" in screen


def test_unload_is_asked_once_and_sent_on_yes(open_top: Callable[[int, int], Terminal], gateway: FakeGateway) -> None:
    top = open_top(80, 24)
    top.wait_for(lambda screen: "Qwen3.6" in screen)
    top.press("Down", "Down", "Down", "Down", "u")
    top.wait_for(lambda screen: "unload Qwen/Qwen3.6-27B-GGUF?" in screen)
    assert gateway.orders == []
    top.press("y")
    top.wait_for(lambda screen: "done" in screen)
    assert gateway.orders == [("POST", "/fleet/models/Qwen/Qwen3.6-27B-GGUF/unload")]


def test_it_survives_a_gateway_restart(open_top: Callable[[int, int], Terminal], gateway: FakeGateway) -> None:
    """While polls fail the last document stays on screen, marked as old; later polls succeed again."""
    top = open_top(80, 24)
    top.wait_for(lambda screen: "beast" in screen)
    gateway.key = "changed"
    top.wait_for(lambda screen: "trying again" in screen and "beast" in screen)
    gateway.key = None
    top.wait_for(lambda screen: "trying again" not in screen and "beast" in screen)
